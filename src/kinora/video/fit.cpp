#include "kinora/video/fit.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/diffusion/scheduler.h"
#include "kinora/video/pieces.h"

namespace kinora::video {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::string size_text(const Plan& plan) {
  return concat(plan.num_frames, plan.num_frames == 1 ? " frame of " : " frames of ", plan.height, "x", plan.width);
}

/// What blocks take at the least: nothing of their own, only what stands around them.
Plan without_blocks(Plan plan) {
  plan.pieces = {.budget = 1};
  return plan;
}

WeightBudgets least_weights(const ModelSizes& sizes) {
  if (!sizes.streamed) return {};
  return {.text_encoder = sizes.streamed->text_bytes, .transformer = sizes.streamed->transformer_bytes};
}

bool may_choose_streaming(const ModelSizes& sizes) { return sizes.streamed && !sizes.streamed->is_asked; }

/// A cache sees both branches, and may decide by them.
bool may_be_apart(const Plan& plan, const Policy* cache) {
  return cache == nullptr && plan.is_guided() && plan.spread.arrangement.branches == 1;
}

/// Makes calls smaller: half the clips, or of one clip a branch at a time. false: there is nothing smaller.
bool shrink(Plan& plan, const Policy* cache) {
  if (plan.batch > 1) {
    plan.batch /= 2;
    return true;
  }
  if (plan.branches_apart || !may_be_apart(plan, cache)) return false;
  return plan.branches_apart = true;
}

/// One clip at a time, and of its weights what has to stay.
Plan smallest(const ModelSizes& sizes, Plan plan, const Policy* cache) {
  plan.batch = 1, plan.pieces = {}, plan.weights = least_weights(sizes);
  plan.branches_apart = plan.branches_apart || may_be_apart(plan, cache);
  return plan;
}

/// Whether a layout has rows for all ranks.
bool can_spread(const ModelSizes& sizes, const Plan& plan) {
  const LatentSize z = latent_size(sizes.vae, plan);
  const auto& patch = sizes.transformer.patch_size;
  const int64_t rows = ceil_div(z.height, patch[1]) * ceil_div(z.width, patch[2]);
  return plan.spread.arrangement.ranks <= std::max(ceil_div(z.frames, patch[0]), rows);
}

bool fits(const ModelSizes& sizes, Plan plan, uint64_t room, const Policy* cache) {
  plan = smallest(sizes, std::move(plan), cache);
  if (!can_spread(sizes, plan)) return false;
  if (estimate_memory(sizes, plan).one_by_one() <= room) return true;
  if (plan.chunk == "none" || estimate_memory(sizes, without_blocks(plan)).one_by_one() > room) return false;
  return least_room(sizes, plan, cache) <= room;
}

/// The largest value below `high` (in steps) for which `good` holds.
template <typename Good>
std::optional<int64_t> largest(int64_t low, int64_t high, Good good) {
  if (high < low || !good(low)) return std::nullopt;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (good(middle))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

std::optional<Plan> nearest_fit(const ModelSizes& sizes, const Plan& plan, uint64_t room, const Policy* cache) {
  Plan smaller = plan;
  const auto with_frames = [&](int64_t frames) {
    smaller.num_frames = frames;
    return fits(sizes, smaller, room, cache);
  };
  if (const auto frames = largest(1, plan.num_frames - 1, with_frames)) {
    smaller.num_frames = *frames;
    return smaller;
  }
  smaller.num_frames = std::min<int64_t>(plan.num_frames, 17);
  const int64_t block = sizes.vae.spatial.downscale() * sizes.transformer.patch_size[1];
  const double ratio = static_cast<double>(plan.width) / static_cast<double>(plan.height);
  const auto with_rows = [&](int64_t rows) {
    smaller.height = rows * block;
    smaller.width = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(rows) * ratio + 0.5)) * block;
    return fits(sizes, smaller, room, cache);
  };
  const auto rows = largest(1, plan.height / block, with_rows);
  if (!rows) return std::nullopt;
  with_rows(*rows);
  return smaller;
}

/// Whole blocks: the largest batch, all parts at once where possible.
std::optional<Fit> whole_fit(const ModelSizes& sizes, const Plan& plan, uint64_t room, const Policy* cache) {
  for (const bool one_by_one : {false, true}) {
    Plan tried = plan;
    do {
      if (estimate_memory(sizes, tried).total(one_by_one) <= room)
        return Fit{tried.batch, tried.branches_apart, one_by_one, {}, tried.weights};
    } while (shrink(tried, cache));
  }
  return std::nullopt;
}

// Weights that are let go of are read once more for the next pass or request; those that are streamed, for every call.
constexpr double kReadBytesPerSecond = 1e9;

double reading_seconds(const MemoryEstimate& e, const Plan& plan) {
  return static_cast<double>(plan.passes()) *
         static_cast<double>(e.text_weights + e.transformer_weights + e.vae_weights) / kReadBytesPerSecond;
}

struct Timed {
  Fit fit;
  double seconds = 0;  ///< predicted, of all model calls and what is read for them
};

void keep_faster(std::optional<Timed>& best, const std::optional<Timed>& other) {
  if (other && (!best || other->seconds < best->seconds)) best = other;
}

/// Shares of the way from the least to whole blocks: activations and weights are weighed against each other at these.
constexpr double kShares[] = {1, 0.75, 0.5, 0.35, 0.2, 0.1, 0};

/// Weights streamed while a call computes: what the activations leave is theirs. `call_seconds` of whole blocks; without
/// `blocks` they stay whole.
std::optional<Timed> streamed_fit(const ModelSizes& sizes, Plan tried, uint64_t room, const BlockPieces* blocks,
                                  double call_seconds, double calls) {
  tried.weights = least_weights(sizes), tried.pieces = {};
  const auto whole = static_cast<int64_t>(estimate_memory(sizes, tried).blocks);
  const int64_t left = estimate_memory(sizes, without_blocks(tried)).blocks_within(room, true);
  std::optional<Timed> best;
  for (const double share : kShares) {
    Plan plan = tried;
    if (blocks != nullptr && share < 1) {
      const int64_t least = std::min(blocks->least(), whole);
      const auto budget = least + static_cast<int64_t>(share * static_cast<double>(whole - least));
      if (budget > left) continue;
      plan.pieces = blocks->within(std::max(budget, blocks->least()));
    }
    const MemoryEstimate e = estimate_memory(sizes, plan);
    if (e.one_by_one() > room) continue;
    const auto peaks = e.stage_peaks(true);
    *plan.weights.text_encoder += room - peaks[0], *plan.weights.transformer += room - peaks[1];
    const uint64_t stays = std::min(*plan.weights.transformer, sizes.transformer_bytes);
    const double streaming = static_cast<double>(sizes.transformer_bytes - stays) / kReadBytesPerSecond;
    keep_faster(best,
                Timed{{plan.batch, plan.branches_apart, true, plan.pieces, plan.weights},
                      calls * std::max(call_seconds * plan.pieces.slowdown, streaming) + reading_seconds(e, plan)});
    if (blocks == nullptr) break;
  }
  return best;
}

/// Of every batch, parts together and one by one, blocks whole and in pieces, weights whole and streamed: the least
/// predicted time.
std::optional<Fit> fastest_fit(const ModelSizes& sizes, Plan tried, uint64_t room, const Policy* cache) {
  const auto clips = static_cast<int64_t>(std::max<size_t>(1, tried.prompts.size()));
  const double calls = static_cast<double>(tried.passes()) *
                       static_cast<double>(tried.scheduler ? tried.scheduler->timesteps().size() : tried.steps);
  std::optional<Timed> best;
  do {
    const MemoryEstimate whole = estimate_memory(sizes, tried), floor = estimate_memory(sizes, without_blocks(tried));
    Plan streamed = without_blocks(tried);
    streamed.weights = least_weights(sizes);
    if (estimate_memory(sizes, streamed).one_by_one() > room) continue;
    const BlockPieces blocks(sizes, tried, cache);
    const double groups = calls * static_cast<double>(ceil_div(clips, tried.batch) * tried.calls_of_step()),
                 seconds = blocks.whole_seconds();
    for (const bool one_by_one : {false, true}) {
      Fit fit{tried.batch, tried.branches_apart, one_by_one, {}, tried.weights};
      if (whole.total(one_by_one) > room) {
        const int64_t budget = floor.blocks_within(room, one_by_one);
        if (floor.total(one_by_one) > room || budget < blocks.least()) continue;
        fit.pieces = blocks.within(budget);
      }
      keep_faster(
          best, Timed{fit, groups * seconds * fit.pieces.slowdown + (one_by_one ? reading_seconds(whole, tried) : 0)});
    }
    if (may_choose_streaming(sizes)) keep_faster(best, streamed_fit(sizes, tried, room, &blocks, seconds, groups));
  } while (shrink(tried, cache));
  return best ? std::optional(best->fit) : std::nullopt;
}

/// Weights streamed, blocks whole: the largest batch.
std::optional<Fit> whole_streamed_fit(const ModelSizes& sizes, Plan tried, uint64_t room, const Policy* cache) {
  do {
    if (const auto found = streamed_fit(sizes, tried, room, nullptr, 0, 1)) return found->fit;
  } while (shrink(tried, cache));
  return std::nullopt;
}

[[noreturn]] void refuse(const ModelSizes& sizes, const Plan& plan, const Room& room, const Policy* cache) {
  const uint64_t needed = least_room(sizes, plan, cache);
  std::vector<std::string> ways;
  if (needed <= room.most) ways.push_back("give --memory " + memory_figure(room.held + needed));
  if (const auto nearest = nearest_fit(sizes, plan, room.bytes, cache)) {
    ways.push_back(
        concat(size_text(*nearest), " would fit (", human_bytes(least_room(sizes, *nearest, cache)), " at the least)"));
  } else {
    ways.push_back(ways.empty() ? "no size of this model fits: free memory, or give --memory more"
                                : "no smaller size would fit");
  }
  throw ResourceError(concat(size_text(plan), " need ", human_bytes(needed), " of memory more at the least, ",
                             human_bytes(room.bytes), " are free"),
                      ways.size() == 1 ? ways[0] : concat(ways[0], "; ", ways[1]));
}

}  // namespace

Room memory_room(uint64_t limit, at::Device device) {
  uint64_t available, held;
  if (device.is_cpu()) {
    available = available_memory_bytes(), held = resident_bytes();
  } else {
    at::globalContext().lazyInitDevice(device.type());
    c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(device.type());
    available = allocator.getMemoryInfo(device.index()).first;
    held = static_cast<uint64_t>(allocator.getDeviceStats(device.index()).reserved_bytes[0].current);
  }
  const uint64_t most = available - available / 10;
  const uint64_t bytes = limit == 0 ? most : std::min(most, limit > held ? limit - held : 0);
  return {.bytes = bytes, .held = held, .most = most};
}

Plan fitted(Plan plan, const Fit& fit) {
  plan.batch = fit.batch, plan.branches_apart = fit.branches_apart, plan.pieces = fit.pieces,
  plan.weights = fit.weights;
  plan.one_by_one = plan.one_by_one || fit.one_by_one;
  return plan;
}

Fit fit_into(const ModelSizes& sizes, const Plan& plan, const Room& room, const Policy* cache) {
  Plan tried = plan;
  tried.pieces = {}, tried.weights = {};
  if (sizes.streamed && sizes.streamed->is_asked) tried.weights = least_weights(sizes);
  tried.batch = std::clamp<int64_t>(plan.batch, 1, static_cast<int64_t>(std::max<size_t>(1, plan.prompts.size())));
  const bool may_cut = plan.chunk != "none";
  std::optional<Fit> fit = whole_fit(sizes, tried, room.bytes, cache);
  const auto is_as_asked = [&] {
    return fit->batch == tried.batch && fit->branches_apart == tried.branches_apart && !fit->one_by_one;
  };
  if (fit && (!may_cut || is_as_asked())) return *fit;
  if (may_cut) fit = fastest_fit(sizes, tried, room.bytes, cache);
  if (!fit && may_choose_streaming(sizes)) fit = whole_streamed_fit(sizes, tried, room.bytes, cache);
  if (fit) return *fit;
  refuse(sizes, tried, room, cache);
}

uint64_t least_room(const ModelSizes& sizes, const Plan& plan, const Policy* cache) {
  const Plan one = smallest(sizes, plan, cache);
  const uint64_t whole = estimate_memory(sizes, one).one_by_one();
  if (plan.chunk == "none") return whole;
  const MemoryEstimate floor = estimate_memory(sizes, without_blocks(one));
  if (floor.one_by_one() == whole) return whole;  // the blocks are not what it takes
  const int64_t least = BlockPieces(sizes, one, cache).least();
  const auto left = static_cast<uint64_t>(std::max<int64_t>(0, floor.blocks_within(floor.one_by_one(), true)));
  const auto more = static_cast<uint64_t>(least) > left ? static_cast<uint64_t>(least) - left : 0;
  return std::min(whole, floor.one_by_one() + more);
}

std::string memory_figure(uint64_t bytes) {
  constexpr uint64_t kMega = 1'000'000;
  return concat((bytes + bytes / 100 + kMega - 1) / kMega, "MB");
}

}  // namespace kinora::video
