// Which steps of a training may change the weights: a step whose loss or gradient is not finite never, and none whose
// loss is far above the recent ones, as a damaged batch's is. When bad steps gather, the weights themselves are in doubt
// and the run goes back to its last checkpoint.
#pragma once

#include <cstdint>
#include <deque>

#include "kinora/tensor/checkpoint.h"
#include "kinora/tensor/convert.h"

namespace kinora::train {

class LossGuard {
 public:
  static constexpr size_t kWindow = 128;    ///< losses that an outlier is told by
  static constexpr double kMostZScore = 6;  ///< standard deviations above their mean
  static constexpr size_t kBadInARow = 3;   ///< steps that are not finite
  static constexpr size_t kBadInAll = 10;   ///< of the last kBadWithin steps
  static constexpr int64_t kBadWithin = 1000;

  enum class Verdict { update, not_finite, outlier };

  /// Steps are to come in their order. Every finite loss joins the window, an outlier too: where the loss has moved to
  /// another level for good, a few steps are skipped and no more.
  Verdict see(int64_t step, double loss, double gradient_norm);

  /// Whether the steps that were not finite have reached one of the two limits.
  bool in_doubt() const;
  /// Whether the last step seen was not finite.
  bool last_was_bad() const { return !bad_.empty() && bad_.back() == last_; }

  /// For the checkpoint; a checkpoint without them leaves the guard new.
  NamedTensors state() const;
  void load_state(const Checkpoint& checkpoint);

 private:
  std::deque<double> losses_;
  std::deque<int64_t> bad_;
  int64_t last_ = -1;
};

}  // namespace kinora::train
