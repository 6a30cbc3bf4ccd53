// One child program, started from an argument list (never through a shell), with its standard streams in our hands.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kinora::media {

/// The program's file as PATH finds it; empty when there is none. A name with a slash is taken as it is.
std::filesystem::path find_program(std::string_view name);

/// An open file descriptor that closes itself.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

struct ProcessOptions {
  bool write_input = false;  ///< our write() feeds the child's standard input; otherwise it reads nothing
  bool read_output = false;  ///< our read() takes the child's standard output; otherwise it is dropped
  bool has_extra_input = false;
  std::string extra_input;        ///< with has_extra_input: what the child reads from descriptor 3
  uint64_t max_memory_bytes = 0;  ///< address space of the child, 0: no limit
  uint64_t max_cpu_seconds = 0;   ///< 0: no limit
};

/// A running child in a process group of its own, so that Ctrl-C reaches us and not it: whether its work is kept is our
/// decision. The destructor kills it and what it started, and waits.
class Process {
 public:
  /// `program` is a file name. Throws ResourceError when it cannot be started.
  Process(const std::filesystem::path& program, const std::vector<std::string>& arguments,
          const ProcessOptions& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// Writes all of the bytes, waiting as long as the child takes; false when the child no longer reads. No SIGPIPE.
  bool write(std::span<const uint8_t> bytes);
  /// Up to bytes.size() bytes; 0 at the end. Throws ResourceError when reading fails.
  size_t read(std::span<uint8_t> bytes);
  /// Ends the child's input, waits for it and gives its exit status; 128 + n when signal n ended it.
  int wait();
  /// The last telling line the child wrote to standard error, fit for a message; empty when there is none.
  std::string last_error_line() const;

 private:
  pid_t pid_ = -1;
  int status_ = 0;
  FileDescriptor input_, output_, errors_;
};

}  // namespace kinora::media
