#include "kinora/cli/mpirun.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string_view>
#include <system_error>
#include <thread>

#include "kinora/base/error.h"

extern char** environ;

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (std::string& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

std::vector<pid_t> children() {
  std::vector<pid_t> out;
  std::error_code ignored;
  for (const auto& task : fs::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream file(task.path() / "children");
    for (pid_t pid = 0; file >> pid;) out.push_back(pid);
  }
  return out;
}

/// What the ranks left running, and what that leaves in turn.
void kill_orphans() {
  for (int round = 0; round < 100; ++round) {
    for (const pid_t child : children()) ::kill(child, SIGKILL);
    pid_t reaped = 0;
    while ((reaped = ::waitpid(-1, nullptr, WNOHANG)) > 0) {
    }
    if (reaped < 0) return;  // none is left
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

Mpirun::Mpirun(const fs::path& program, const std::vector<std::string>& arguments,
               const std::vector<std::pair<std::string, std::string>>& variables) {
  // Whatever the ranks have started becomes our child when its parent goes.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::vector<std::string> words{program.string()}, settings;
  words.insert(words.end(), arguments.begin(), arguments.end());
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view own = *at;
    const bool is_replaced =
        std::any_of(variables.begin(), variables.end(), [&](const auto& v) { return own.starts_with(v.first + "="); });
    if (!is_replaced) settings.emplace_back(own);
  }
  for (const auto& [name, value] : variables) settings.push_back(name + "=" + value);
  const auto argv = pointers(words), envp = pointers(settings);
  std::array<int, 2> output{}, errors{};
  if (::pipe2(output.data(), O_CLOEXEC) != 0 || ::pipe2(errors.data(), O_CLOEXEC) != 0)
    throw ResourceError("no pipes are left for mpirun");
  const bool is_typed = ::isatty(0) == 1;  // a group in the background may not read from a terminal
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const int s : {SIGPIPE, SIGXFSZ, SIGHUP}) ::signal(s, SIG_DFL);
    if (is_typed) ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(output[1], 1);
    ::dup2(errors[1], 2);
    if (::getppid() == parent) ::execve(program.c_str(), argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(output[1]), ::close(errors[1]);
  fds_ = {output[0], errors[0]};
  if (pid_ < 0) throw ResourceError(concat("cannot start '", program.string(), "'"));
}

Mpirun::~Mpirun() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  kill_orphans();
  for (const int fd : fds_) ::close(fd);
}

void Mpirun::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

std::optional<int> Mpirun::ended() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace kinora::cli
