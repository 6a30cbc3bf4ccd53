// Stands between a test program and its disk: notes the calls that make files durable, in their order, and lets one
// fail as asked. The definitions below take the place of libc's, so one source of a program includes this, at its top.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

namespace kinora {

/// What was done while it lives. Names are file names; a temporary's is without its process and number:
/// "fsync .x.json", "rename x.json", "fsync folder", "remove old.json".
class DiskCalls {
 public:
  DiskCalls() { current() = this; }
  ~DiskCalls() { current() = nullptr; }
  DiskCalls(const DiskCalls&) = delete;
  DiskCalls& operator=(const DiskCalls&) = delete;

  std::vector<std::string> seen;
  std::string fails;  ///< the call that fails, as it would stand in `seen`
  int error = EIO;

  static DiskCalls*& current() {
    static DiskCalls* calls = nullptr;
    return calls;
  }
  /// Whether the call is to be made.
  static bool note(const std::string& call, const std::filesystem::path& path) {
    DiskCalls* const calls = current();
    if (calls == nullptr) return true;
    std::string name = path.filename().string();
    if (const size_t at = name.find(".tmp-"); at != std::string::npos)
      name.erase(at, name.find_first_not_of("0123456789-", at + 5) - at);
    calls->seen.push_back(call + " " + name);
    if (calls->seen.back() != calls->fails) return true;
    errno = calls->error;
    return false;
  }
};

}  // namespace kinora

extern "C" int fsync(int fd) {
  std::error_code ignored;
  const auto path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ignored);
  return kinora::DiskCalls::note("fsync", path) ? static_cast<int>(::syscall(SYS_fsync, fd)) : -1;
}

extern "C" int rename(const char* from, const char* to) noexcept {
  return kinora::DiskCalls::note("rename", to)
             ? static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))
             : -1;
}

extern "C" int remove(const char* path) noexcept {
  if (!kinora::DiskCalls::note("remove", path)) return -1;
  const int done = static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0));
  return done != 0 && errno == EISDIR ? static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)) : done;
}
