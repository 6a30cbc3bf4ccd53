// What a program does with signals, and a library never: Ctrl-C asks for a stop, and a file that somebody cuts while it is mapped
// becomes an error instead of a crash.
#pragma once

#include <stop_token>
#include <thread>

namespace kinora::cli {

/// While it lives, the first SIGINT or SIGTERM requests a stop and the second ends the process at once (exit code 130). Make it
/// before any other thread: threads inherit the mask that sends the signals here.
class CancelOnSignal {
 public:
  CancelOnSignal();
  ~CancelOnSignal();
  CancelOnSignal(const CancelOnSignal&) = delete;
  CancelOnSignal& operator=(const CancelOnSignal&) = delete;
  std::stop_token token() const { return stop_.get_token(); }

 private:
  std::stop_source stop_;
  std::thread waiter_;
};

/// From here on a read behind the end of a mapped file sees zeros, and throw_if_file_was_cut() throws.
void install_bus_guard();
/// DataError when the guard had to step in since the program began.
void throw_if_file_was_cut();

}  // namespace kinora::cli
