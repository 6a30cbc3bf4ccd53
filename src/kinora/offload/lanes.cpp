#include "kinora/offload/lanes.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace kinora::offload {
namespace {

using Clock = Pace::Clock;
constexpr auto kAtOnce = std::chrono::milliseconds(2);

Clock::duration duration_of(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

double seconds_of(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

/// What the lanes share.
struct Board {
  const Schedule& schedule;
  const std::function<void(int)>& work;
  Clock::time_point start = Clock::now();
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<bool> ended;
  std::exception_ptr error;
  Timeline timeline;

  bool may_begin(const Task& task) const {
    return std::all_of(task.after.begin(), task.after.end(), [&](int t) { return ended[static_cast<size_t>(t)]; });
  }

  void run_lane(Resource resource) {
    double free = 0;
    for (size_t i = 0; i < schedule.size(); ++i) {
      const Task& task = schedule[i];
      if (task.resource != resource) continue;
      double begin = free;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return error || may_begin(task); });
        if (error) return;
        for (const int t : task.after) begin = std::max(begin, timeline.end[static_cast<size_t>(t)]);
      }
      work(static_cast<int>(i));
      const double end = std::max(begin + task.seconds, seconds_of(Clock::now() - start));
      std::this_thread::sleep_until(start + duration_of(end));
      free = end;
      const std::lock_guard lock(mutex);
      timeline.begin[i] = begin, timeline.end[i] = end;
      timeline.busy[static_cast<size_t>(resource)] += end - begin;
      ended[i] = true;
      changed.notify_all();
    }
  }
};

}  // namespace

void Pace::spend(double seconds, Clock::time_point began) {
  if (began <= woke_ + kAtOnce) began = end_;
  end_ = began + duration_of(seconds);
  std::this_thread::sleep_until(end_);
  woke_ = Clock::now();
}

Timeline run_lanes(const Schedule& schedule, const std::function<void(int)>& work) {
  virtual_time(schedule);  // what cannot run is refused before a thread starts
  Board board{.schedule = schedule, .work = work};
  board.ended.resize(schedule.size());
  board.timeline.begin.resize(schedule.size());
  board.timeline.end.resize(schedule.size());
  {
    std::vector<std::jthread> lanes;
    for (size_t lane = 0; lane < kNumResources; ++lane) {
      lanes.emplace_back([&board, lane] {
        try {
          board.run_lane(static_cast<Resource>(lane));
        } catch (...) {
          const std::lock_guard lock(board.mutex);
          if (!board.error) board.error = std::current_exception();
          board.changed.notify_all();
        }
      });
    }
  }
  if (board.error) std::rethrow_exception(board.error);
  board.timeline.total = seconds_of(Clock::now() - board.start);
  return std::move(board.timeline);
}

}  // namespace kinora::offload
