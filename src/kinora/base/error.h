// The errors that Kinora throws. Each has one sentence of what is wrong and, where there is one, one of what would work;
// the program turns the class into its exit code. Everything that is not a kinora::Error is a bug (exit code 70).
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace kinora {

/// Joins its arguments as text: concat("frames: ", 17). Numbers are plain digits whatever the program's locale says:
/// file headers are made of them too.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  (out << ... << parts);
  return out.str();
}

class Error : public std::runtime_error {
 public:
  Error(std::string what, std::string hint, int exit_code)
      : std::runtime_error(std::move(what)), hint_(std::move(hint)), exit_code_(exit_code) {}
  /// What would work; empty when the first sentence says it all.
  const std::string& hint() const noexcept { return hint_; }
  int exit_code() const noexcept { return exit_code_; }

 private:
  std::string hint_;
  int exit_code_;
};

/// The caller asked for something that cannot be: an option, a shape, a dtype.
class UsageError : public Error {
 public:
  explicit UsageError(std::string what, std::string hint = {}) : Error(std::move(what), std::move(hint), 2) {}
};

/// A file is damaged, of another kind, or does not hold what it must.
class DataError : public Error {
 public:
  explicit DataError(std::string what, std::string hint = {}) : Error(std::move(what), std::move(hint), 65) {}
};

/// Memory, disk, a device or a program is missing or too small.
class ResourceError : public Error {
 public:
  explicit ResourceError(std::string what, std::string hint = {}) : Error(std::move(what), std::move(hint), 69) {}
};

/// Another rank failed or disagrees.
class PeerError : public Error {
 public:
  explicit PeerError(std::string what, std::string hint = {}) : Error(std::move(what), std::move(hint), 76) {}
};

/// The user or the caller's stop token ended the work.
class CancelledError : public Error {
 public:
  explicit CancelledError(std::string what = "cancelled") : Error(std::move(what), {}, 130) {}
};

/// A deadline passed before the work was done.
class DeadlineError : public Error {
 public:
  explicit DeadlineError(std::string what, std::string hint = {}) : Error(std::move(what), std::move(hint), 75) {}
};

/// Exit code of every other exception: a bug of ours.
inline constexpr int kBugExitCode = 70;

namespace detail {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);
}

}  // namespace kinora

/// For what only a bug can break; never reachable from user input.
#define KINORA_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::kinora::detail::assertion_failed(#condition, __FILE__, __LINE__))
