// The blocks of a model, found in the names of its parameters, and which of them stay in memory.
#pragma once

#include <string>
#include <vector>

#include "kinora/nn/module.h"

namespace kinora::offload {

/// A parameter "prefix.N.rest" belongs to block N of the stack "prefix" where that stack has the blocks 0 up to some
/// n >= 1. Several stacks ("spatial_blocks", "temporal_blocks") are taken in turn: block 0 of each, then block 1.
struct Blocks {
  std::vector<int> of;             ///< by parameter id, in the order of use; -1: in no block
  std::vector<std::string> names;  ///< "spatial_blocks.0"
  int size() const { return static_cast<int>(names.size()); }
};
Blocks find_blocks(const Params& params);

/// Weights that may leave the memory of the device: matrices of linear layers (named "...weight", two dimensions) with at
/// least so many elements, in a block. All other parameters stay.
inline constexpr int64_t kLeastStreamed = 4096;
bool may_stream(const Param& param, const Blocks& blocks, int64_t least_elements = kLeastStreamed);

/// What stays and what passes through a ring of slots within a budget.
struct StreamPlan {
  Blocks blocks;
  std::vector<bool> resident;  ///< by block
  int slots = 0;               ///< 0: everything is resident
  int64_t least_elements = kLeastStreamed;
  uint64_t resident_bytes = 0;  ///< of everything that stays
  uint64_t ring_bytes = 0;
  uint64_t streamed_bytes = 0;  ///< over the link in every pass, in the run's dtype

  uint64_t bytes() const { return resident_bytes + ring_bytes; }
};

/// As many blocks resident, evenly spread, as `budget_bytes` of weights allow beside a ring of `slots`; all of them
/// where they fit without one. Throws ResourceError, naming the smallest budget, where not even the ring fits.
StreamPlan plan_stream(const Params& params, size_t element_bytes, uint64_t budget_bytes, int slots = 2,
                       int64_t least_elements = kLeastStreamed);
/// With so many resident blocks.
StreamPlan stream_with(const Params& params, size_t element_bytes, int resident_blocks, int slots = 2,
                       int64_t least_elements = kLeastStreamed);

}  // namespace kinora::offload
