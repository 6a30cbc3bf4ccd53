// What a program does with signals, and a library never: Ctrl-C asks for a stop, and a file that somebody cuts while it is mapped
// becomes an error instead of a crash, as does a write that cannot be done.
#pragma once

#include <atomic>
#include <stop_token>
#include <thread>

namespace kinora::cli {

/// While it lives, the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 (which mpirun and batch systems hand on) requests a stop
/// and the second ends the process at once (exit code 130). A SIGHUP that the program was started to ignore (nohup) stays ignored. Make it before any other thread:
/// threads inherit the mask that sends the signals here.
class CancelOnSignal {
 public:
  CancelOnSignal();
  ~CancelOnSignal();
  CancelOnSignal(const CancelOnSignal&) = delete;
  CancelOnSignal& operator=(const CancelOnSignal&) = delete;
  std::stop_token token() const { return stop_.get_token(); }
  /// How many have come.
  int count() const { return count_.load(); }
  /// From here on the second is left to the caller, who sees it in count(); the third ends the process.
  void keep_second() { most_.store(2); }

 private:
  std::atomic<int> count_{0}, most_{1};
  std::stop_source stop_;
  std::thread waiter_;
};

/// From here on a write that cannot be done, to a pipe that nobody reads or over `ulimit -f`, is an error of write() and
/// ends no process: what was begun is then removed.
void make_signals_write_errors();

/// From here on a read behind the end of a mapped file sees zeros, and throw_if_file_was_cut() throws.
void install_bus_guard();
/// DataError when the guard had to step in since the program began.
void throw_if_file_was_cut();

}  // namespace kinora::cli
