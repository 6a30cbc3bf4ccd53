// One line that tells how far the work is: "denoise 12/30  0.41 step/s  44 s left  1.9 GB".
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <ostream>
#include <string>
#include <utility>

namespace kinora {

struct ProgressOptions {
  std::string label;
  int64_t total = 0;                       // 0: unknown, so no time left is shown
  int64_t begin = 0;                       // steps that an earlier run has done: not in rate and time
  std::string unit = "step";               // what a step is called in the rate: 0.41 step/s
  bool is_terminal = false;                // rewrite one line in place; otherwise a new line now and then
  double interval_s = -1.0;                // shortest time between two writes; below 0: 0.1 s or, without terminal, 5 s
  std::function<double()> now_s;           // seconds of any steady clock; empty: the system's
  std::function<uint64_t()> memory_bytes;  // shown when given, such as resident_bytes
};

/// Whether a descriptor (2: stderr) is a terminal.
bool is_terminal(int descriptor);

/// Writes on `out` as update() is called; finish() or the destructor ends the line. Not thread-safe: one owner.
class Progress {
 public:
  Progress(std::ostream& out, ProgressOptions options);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` steps are complete; may go up by any number. The first and the last step are always shown.
  void update(int64_t done);
  /// Shown at the line's end from the next write on, such as "loss 0.0123".
  void set_note(std::string note) { note_ = std::move(note); }
  /// Writes the last state and ends the line; later calls do nothing.
  void finish();

 private:
  std::string line(double now) const;
  void write(double now);
  std::ostream& out_;
  ProgressOptions options_;
  std::string note_;
  std::deque<std::pair<double, int64_t>> recent_;  // time and steps done: the rate follows the last updates
  int64_t done_ = 0;
  int64_t written_done_ = -1;
  double start_s_ = 0.0;
  double last_write_s_ = 0.0;
  bool is_finished_ = false;
};

}  // namespace kinora
