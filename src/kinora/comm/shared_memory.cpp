#include "kinora/comm/shared_memory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <random>
#include <system_error>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/comm/call.h"

namespace kinora::comm {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kBoard = "kinora-board-", kJob = "kinora-job-";

std::string name_of_this_process(std::string_view prefix) {
  std::random_device random;
  const uint64_t id = (uint64_t{random()} << 32) | random();
  char text[17] = "";
  std::to_chars(text, text + 16, id, 16);
  return concat(prefix, ::getpid(), "-", text);
}

[[noreturn]] void fail(const fs::path& path, const char* doing) {
  throw ResourceError(concat("cannot ", doing, " '", path.string(), "': ", std::generic_category().message(errno)),
                      "ranks of one host share a few hundred kilobytes there");
}

}  // namespace

fs::path shared_memory_folder() {
  const fs::path folder = "/dev/shm";
  return ::access(folder.c_str(), W_OK | X_OK) == 0 ? folder : fs::temp_directory_path();
}

uint64_t shared_memory_key() {
  struct stat status {};
  const fs::path folder = shared_memory_folder();
  if (::stat(folder.c_str(), &status) != 0) fail(folder, "look into");
  std::string boot;
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::getline(file, boot);  // names the host's run; containers of one host have it in common, their folders differ
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const std::string text = concat(boot, "/", host, "/", status.st_dev, "/", status.st_ino);
  return hash(1, text.data(), text.size());
}

SharedMemory::SharedMemory(fs::path path, int fd, size_t bytes, bool is_owner)
    : path_(std::move(path)), bytes_(bytes), is_named_(is_owner) {
  // Room is taken now: a full /dev/shm would otherwise kill the process at the first write.
  const int error = is_owner ? ::posix_fallocate(fd, 0, static_cast<off_t>(bytes)) : 0;
  data_ = error == 0 ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (error != 0) errno = error;
  const int kept = errno;
  ::close(fd);
  if (data_ != MAP_FAILED) return;
  if (is_owner) ::unlink(path_.c_str());
  errno = kept;
  fail(path_, "share memory in");
}

SharedMemory SharedMemory::create(const std::string& name, size_t bytes) {
  const fs::path path = shared_memory_folder() / name;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) fail(path, "make");
  return {path, fd, bytes, true};
}

SharedMemory SharedMemory::open(const std::string& name, size_t bytes) {
  const fs::path path = shared_memory_folder() / name;
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) fail(path, "open");
  struct stat status {};
  if (::fstat(fd, &status) != 0 || static_cast<size_t>(status.st_size) < bytes) {
    ::close(fd);
    errno = EINVAL;
    fail(path, "use");
  }
  return {path, fd, bytes, false};
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      is_named_(std::exchange(other.is_named_, false)) {}

SharedMemory::~SharedMemory() {
  forget();
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

void SharedMemory::forget() {
  if (std::exchange(is_named_, false)) ::unlink(path_.c_str());
}

std::string board_name() { return name_of_this_process(kBoard); }
std::string job_name() { return name_of_this_process(kJob); }

void remove_leftovers(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const auto prefix = name.starts_with(kBoard) ? kBoard : kJob;
    if (!name.starts_with(prefix)) continue;
    pid_t pid = 0;
    std::from_chars(name.data() + prefix.size(), name.data() + name.size(), pid);
    struct stat status {};
    const bool is_own = ::lstat(entry.path().c_str(), &status) == 0 && status.st_uid == ::getuid();
    if (is_own && pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace kinora::comm
