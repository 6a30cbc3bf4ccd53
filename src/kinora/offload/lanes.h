// Real lanes: a schedule run by threads, one for each resource, and the clocks by which a machine without a GPU stands
// for one. A link is a copy and a sleep to its rate; a device is real operators and a sleep to the time that it is
// modelled to take.
#pragma once

#include <chrono>
#include <functional>

#include "kinora/offload/schedule.h"

namespace kinora::offload {

/// The clock of something that does one thing after the other and takes a known time for each. It is absolute: sleeps
/// that end late do not add up.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;
  /// Sleeps until what was just done has taken `seconds` in all. It counts from the end of the last one when it began
  /// within two milliseconds of the waking from that, which may be late, else from `began`.
  void spend(double seconds, Clock::time_point began);

 private:
  Clock::time_point end_{}, woke_{};
};

/// Runs the schedule: `work(task)` on the thread of the task's resource, which then sleeps until the task has taken its
/// time; a task whose work takes longer ends when it does. -> when each began and ended by the lanes' clocks; `total` is
/// by the caller's clock. Throws as virtual_time, and what `work` throws first, once every lane has stopped.
Timeline run_lanes(const Schedule& schedule, const std::function<void(int task)>& work);

}  // namespace kinora::offload
