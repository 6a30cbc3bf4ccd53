// Weights on the move as a plan: tasks that each occupy one resource (the device, the link to it, the CPU, the disk)
// for a while and wait for others. A plan runs in virtual time, where it equals the closed formulas below, or on real
// lanes (lanes.h). Seconds and bytes throughout.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace kinora::offload {

enum class Resource : uint8_t { device, link, cpu, disk };
inline constexpr size_t kNumResources = 4;

struct Task {
  Resource resource = Resource::device;
  double seconds = 0;
  std::vector<int> after = {};  ///< indices of earlier tasks that must have ended
};

/// A resource takes its tasks in the order of the list, one at a time.
using Schedule = std::vector<Task>;

struct Timeline {
  std::vector<double> begin, end;            ///< of each task, from the start of the schedule
  std::array<double, kNumResources> busy{};  ///< seconds of work of each resource
  double total = 0;                          ///< when the last task ends
};

/// When everything happens if every task takes as long as it says: deterministic, no clock is read. UsageError when a
/// task waits for itself or for a later one, or takes less than no time.
Timeline virtual_time(const Schedule& schedule);

/// Blocks of one size that a device computes one after the other, `steps` times, some of them streamed to it through a
/// ring of slots. A slot is free when the block in it is computed; the link works ahead, over the ends of steps too.
struct Streaming {
  std::vector<bool> resident;  ///< by block
  double copy_seconds = 0;     ///< a streamed block over the link
  double compute_seconds = 0;  ///< a block on the device
  int ring = 2;                ///< slots; 0: every copy waits for the computation before it, nothing overlaps
  int steps = 1;
};
Schedule streaming(const Streaming& plan);
/// Seconds of a step once the ring runs, from the ends of the last two of `plan.steps` (at least 2) steps.
double seconds_per_step(const Streaming& plan, const Timeline& timeline);

/// `count` of `blocks` resident, as evenly spread as they can be. LRU is the worst policy for a cyclic order, and a
/// contiguous resident part leaves the link waiting: docs/memory.md.
std::vector<bool> spread_evenly(int blocks, int count);
std::vector<bool> first_of(int blocks, int count);

/// No schedule of a step is shorter than this: max(n t_c, (W - R) / v_l, (W - R - H) / v_d).
struct StepBound {
  double compute_seconds = 0;  ///< n t_c
  double bytes = 0;            ///< W
  double resident_bytes = 0;   ///< R, on the device
  double host_bytes = 0;       ///< H, in the host's memory
  double link_rate = 0;        ///< v_l, bytes a second
  double disk_rate = 0;        ///< v_d; 0: everything that is not resident lies in the host's memory
  double seconds() const;
};

/// A linear layer whose output features are divided between the CPU, which has the weights, and a device that gets its
/// part over the link (HeteGen, Zhao et al. 2024; its balance of both sides).
struct SplitRates {
  double bytes = 0;          ///< W of the layer
  double cpu_rate = 0;       ///< v_c: bytes of weight that the CPU works through in a second
  double link_rate = 0;      ///< v_l
  double device_rate = 0;    ///< v_g; 0: so fast that it does not count
  double other_seconds = 0;  ///< T_o: what the device does beside, while the CPU has nothing to do
};
/// The share of the CPU that ends both sides together. With `prefetch` the link also works during T_o:
/// clamp(v_c (1 - T_o v_l / W) / (v_c + v_l)); without: (1/v_l + 1/v_g) / (1/v_c + 1/v_l + 1/v_g).
double split_share(const SplitRates& rates, bool prefetch);
/// The add-rates law, seconds of a layer with prefetch: (W + T_o v_c) / (v_c + v_l), or T_o where that is longer.
double split_seconds(const SplitRates& rates);
/// `layers` such layers with the share `alpha` on the CPU, one after the other: the link works `ring` layers ahead.
Schedule split_layers(const SplitRates& rates, double alpha, int layers, int ring);

}  // namespace kinora::offload
