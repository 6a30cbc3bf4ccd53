// What ranks tell each other after each step: who wants to stop, and how long each has worked.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kinora/comm/communicator.h"

namespace kinora::comm {

struct Straggler {
  int rank = 0;
  double step_s = 0, median_s = 0;  ///< means over the last 20 steps
};
/// "rank 3 works 0.31 s a step, the median is 0.10 s: everybody waits for it"
std::string describe(const Straggler& straggler);

/// Finds a rank that works more than twice as long as the median over 20 steps. Differences of less than 5 ms a step
/// are nobody's trouble. The same rank is told again after 200 steps.
class Stragglers {
 public:
  /// One step of every rank, in seconds without the time it waited for others.
  std::optional<Straggler> add(std::span<const double> work_s);

 private:
  std::deque<std::vector<double>> recent_;
  int64_t num_steps_ = 0;
  std::vector<int64_t> told_;  // by rank: the step, or far in the past
};

/// Once a step, on every rank. Rank 0 logs a straggler as a warning.
class Steps {
 public:
  explicit Steps(Communicator& group) : group_(group) {}
  /// Whether any rank wants to stop: then all do, after this step. `work_s` is what this rank worked in this step,
  /// without the time it waited (Traffic::waited_s). Collective.
  bool agree_to_stop(bool mine, double work_s);

 private:
  Communicator& group_;
  Stragglers stragglers_;
};

}  // namespace kinora::comm
