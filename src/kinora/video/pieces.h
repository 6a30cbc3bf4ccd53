// The denoiser's blocks in pieces (graph/block_graphs.h): what they take at the least and how long they take within a
// budget, from shapes alone, before any weight is read.
#pragma once

#include <memory>
#include <vector>

#include "kinora/graph/plan.h"
#include "kinora/video/estimate.h"

namespace kinora::video {

/// Of one model call of a plan, on the rank that has most rows.
class BlockPieces {
 public:
  /// cache: what it will keep leaves a block whole; may be null.
  BlockPieces(const ModelSizes& sizes, const Plan& plan, const Policy* cache);
  /// The smallest budget, in bytes of activations while one block runs.
  int64_t least() const { return least_; }
  /// Within a budget. Throws ResourceError below the least.
  Pieces within(int64_t budget) const;
  /// Predicted, of all blocks of a call where they run whole.
  double whole_seconds() const { return whole_seconds_; }

 private:
  std::vector<std::unique_ptr<graph::Graph>> graphs_;
  std::vector<graph::Planner> planners_;
  int64_t least_ = 0;
  double repeats_ = 1, whole_seconds_ = 0;
};

/// How pieces are planned, here as in the run: equal bits.
graph::PlanOptions plan_options(at::Device device, int64_t budget);

}  // namespace kinora::video
