#include "kinora/media/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

extern char** environ;

namespace kinora::media {
namespace {

namespace fs = std::filesystem;
constexpr int kFirstSafeFd = 10;  // above every descriptor that the child gets by number
constexpr size_t kErrorTailBytes = 8192;

std::string reason(int error) { return std::generic_category().message(error); }

[[noreturn]] void start_failed(const fs::path& program, int error) {
  throw ResourceError(concat("cannot start '", program.string(), "': ", reason(error)));
}

/// Moves a descriptor out of the range 0..3: a caller whose standard streams are closed would otherwise get them there,
/// and one dup2 would overwrite the next one's source.
FileDescriptor raised(int fd, const fs::path& program) {
  if (fd < 0) start_failed(program, errno);
  const FileDescriptor low(fd);
  const int high = ::fcntl(fd, F_DUPFD_CLOEXEC, kFirstSafeFd);
  if (high < 0) start_failed(program, errno);
  return FileDescriptor(high);
}

/// A file in memory; what a child writes there never blocks it, and needs no thread of ours to read along.
FileDescriptor memory_file(const char* name, const fs::path& program) {
  return raised(::memfd_create(name, MFD_CLOEXEC), program);
}

class SpawnSettings {
 public:
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    sigset_t none, defaults;
    ::sigemptyset(&none);
    ::sigemptyset(&defaults);
    for (const int signal : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::sigaddset(&defaults, signal);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

void limit(pid_t pid, __rlimit_resource resource, uint64_t most) {
  if (most == 0) return;
  const rlimit value{most, most};
  ::prlimit(pid, resource, &value, nullptr);  // a refusal leaves the inherited limit, which is no larger
}

}  // namespace

fs::path find_program(std::string_view name) {
  const auto runs = [](const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string_view::npos) return runs(name) ? fs::path(name) : fs::path();
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable != nullptr ? variable : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const std::string_view folder = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    // An empty entry would mean the current folder: a program lying there is not what the user meant by ffmpeg.
    if (folder.empty()) continue;
    const fs::path path = fs::path(folder) / name;
    if (runs(path)) return path;
  }
  return {};
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() { reset(); }

void FileDescriptor::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Process::Process(const fs::path& program, const std::vector<std::string>& arguments, const ProcessOptions& options) {
  errors_ = memory_file("errors", program);
  FileDescriptor child_input, child_output, extra;
  if (options.write_input) {
    // A socket and not a pipe: send() can be told not to raise SIGPIPE, write() cannot.
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) start_failed(program, errno);
    FileDescriptor ours(pair[0]);
    child_input = raised(pair[1], program);
    input_ = raised(::dup(ours.get()), program);
  } else {
    child_input = raised(::open("/dev/null", O_RDONLY | O_CLOEXEC), program);
  }
  if (options.read_output) {
    int pair[2];
    if (::pipe2(pair, O_CLOEXEC) != 0) start_failed(program, errno);
    FileDescriptor ours(pair[0]);
    child_output = raised(pair[1], program);
    output_ = raised(::dup(ours.get()), program);
  } else {
    child_output = raised(::open("/dev/null", O_WRONLY | O_CLOEXEC), program);
  }
  if (options.has_extra_input) {
    extra = memory_file("input", program);
    std::string_view rest = options.extra_input;
    while (!rest.empty()) {
      const ssize_t put = ::write(extra.get(), rest.data(), rest.size());
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) start_failed(program, errno);
      rest.remove_prefix(static_cast<size_t>(put));
    }
    ::lseek(extra.get(), 0, SEEK_SET);
  }

  SpawnSettings settings;
  ::posix_spawn_file_actions_adddup2(&settings.actions, child_input.get(), 0);
  ::posix_spawn_file_actions_adddup2(&settings.actions, child_output.get(), 1);
  ::posix_spawn_file_actions_adddup2(&settings.actions, errors_.get(), 2);
  if (extra) ::posix_spawn_file_actions_adddup2(&settings.actions, extra.get(), 3);
  std::vector<std::string> words{program.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const int error =
      ::posix_spawn(&pid_, program.c_str(), &settings.actions, &settings.attributes, pointers.data(), environ);
  if (error != 0) {
    pid_ = -1;
    start_failed(program, error);
  }
  limit(pid_, RLIMIT_AS, options.max_memory_bytes);
  limit(pid_, RLIMIT_CPU, options.max_cpu_seconds);
}

Process::~Process() {
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);  // the whole group: where ffmpeg is a script, the program that writes is its child
  wait();
}

bool Process::write(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    if (!input_) return false;
    const ssize_t put = ::send(input_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return true;
}

size_t Process::read(std::span<uint8_t> bytes) {
  while (output_) {
    const ssize_t got = ::read(output_.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw ResourceError(concat("cannot read from a child program: ", reason(errno)));
    return static_cast<size_t>(got);
  }
  return 0;
}

int Process::wait() {
  input_.reset();
  output_.reset();
  if (pid_ <= 0) return status_;
  int status = 0;
  pid_t got = 0;
  do {
    got = ::waitpid(pid_, &status, 0);
  } while (got < 0 && errno == EINTR);
  pid_ = -1;
  // A program that ignores SIGCHLD has no status to give us; the caller's look at the result decides then.
  if (got < 0)
    status_ = 0;
  else
    status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return status_;
}

std::string Process::last_error_line() const {
  const off_t end = ::lseek(errors_.get(), 0, SEEK_END);
  if (end <= 0) return {};
  const auto length = std::min<size_t>(static_cast<size_t>(end), kErrorTailBytes);
  std::string tail(length, '\0');
  const ssize_t got = ::pread(errors_.get(), tail.data(), length, end - static_cast<off_t>(length));
  tail.resize(got > 0 ? static_cast<size_t>(got) : 0);
  std::string last;
  for (size_t at = 0; at < tail.size();) {
    const size_t stop = std::min(tail.find_first_of("\r\n", at), tail.size());
    const std::string line = tail.substr(at, stop - at);
    // ffmpeg ends every failure with one of these, after the line that says why.
    const bool says_nothing = line.find_first_not_of(" \t") == std::string::npos ||
                              line.starts_with("Conversion failed") || line.starts_with("Error splitting the argument");
    if (!says_nothing) last = line;
    at = stop + 1;
  }
  return printable(last, 200);
}

}  // namespace kinora::media
