// How a request runs in the memory that there is: how many clips at a time, parts one by one, blocks in pieces, weights
// streamed. What cannot is refused in milliseconds, with what would work.
#pragma once

#include <cstdint>
#include <string>

#include "kinora/nn/site.h"
#include "kinora/video/estimate.h"

namespace kinora::video {

/// Bytes that a process may still take.
struct Room {
  uint64_t bytes = 0;
  uint64_t held = 0;      ///< what it holds already
  uint64_t most = bytes;  ///< what it could take without a limit
};

/// On `device`: `limit` (0: none) less what is held there, at most nine tenths of what is free. To be asked before
/// anything is planned: a plan takes memory of its own.
Room memory_room(uint64_t limit, at::Device device = at::kCPU);

struct Fit {
  int64_t batch = 1;
  bool branches_apart = false;
  bool one_by_one = false;  ///< free each part's weights before the next is loaded
  Pieces pieces;            ///< of the denoiser's blocks
  WeightBudgets weights;    ///< of parts that are streamed
};

/// The plan, to be run so.
Plan fitted(Plan plan, const Fit& fit);

/// How to run a plan within `room`, for batches up to plan.batch: all at once where that fits; else what is predicted to
/// take the least time of smaller batches, down to one clip's branches of guidance apart (not under a cache), parts one by
/// one, blocks in pieces unless plan.chunk forbids it, and streamed weights where sizes.streamed allows them. `cache` is
/// asked what it keeps; may be null. Throws ResourceError that names what is needed at the least, what there is, and
/// what would work: a limit, and the nearest size, fewer frames first, then a smaller picture.
Fit fit_into(const ModelSizes& sizes, const Plan& plan, const Room& room, const Policy* cache = nullptr);

/// The smallest room that fit_into() accepts for these frames.
uint64_t least_room(const ModelSizes& sizes, const Plan& plan, const Policy* cache = nullptr);

/// "1234MB": bytes for --memory, rounded up, with a hundredth more for what a process holds at its start.
std::string memory_figure(uint64_t bytes);

}  // namespace kinora::video
