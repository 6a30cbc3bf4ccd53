// A ring of slots in the memory of a device, through which the weights of a model's blocks pass: a thread of its own
// copies the next block from a store while the device works on this one. Which block comes next is learned from the
// order in which they are asked for, forward and backward.
//
// A slot holds one group (the weights of a block) and is as large as the largest. Tensors that are handed out keep
// their slot; it is free when the last of them is gone and everybody has gone on to another group. Where a device has
// streams, nobody on the host waits for them: the copy stream waits for the last use, the computation for the copy.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "kinora/offload/fence.h"
#include "kinora/offload/store.h"

namespace kinora::offload {

/// What of a parameter passes through a ring.
struct RingPart {
  Param param;
  int group = -1;     ///< index of its group in the order of use; -1: not in the ring
  int64_t first = 0;  ///< row from which on
  int64_t rows = -1;  ///< -1: all
  std::vector<int64_t> shape() const;
};

struct RingOptions {
  int slots = 2;  ///< the group in use, and those ahead of it
  at::Device device = at::kCPU;
  bool pins = false;     ///< of the host's memory: what stays is pinned, for a device to read
  bool poisons = false;  ///< fills freed slots with NaN, for tests
  /// Of somebody who needs a slot while others hold all of them.
  std::chrono::milliseconds patience = std::chrono::seconds(120);
};

struct RingCounts {
  uint64_t bytes = 0;             ///< over the link
  uint64_t vain_bytes = 0;        ///< of groups that left the ring without being asked for
  std::map<int32_t, int> copies;  ///< by id
  double waited_seconds = 0;      ///< in which somebody stood still for a weight
};

class Ring {
 public:
  /// `parts` by id. The store must outlive the ring. UsageError for less than one slot.
  Ring(std::vector<RingPart> parts, WeightStore& store, RingOptions options);
  /// Waits for the copy at hand. Tensors may outlive the ring, not the process's LibTorch.
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// The weight in its slot, for reader `reader`; waits until it is there. Thread-safe. Throws what the store threw, and
  /// ResourceError when no slot came free within options.patience.
  Tensor lease(int32_t id, int reader = 0);

  /// Weights (by id) that will not be asked for before the order of groups begins anew, and behind that: the sites of a
  /// block that a cache reuses. They are not copied ahead; asked for all the same, they are.
  void skip(std::vector<bool> now, std::vector<bool> then, int reader = 0);

  /// Readers go through the groups together and share every copy: a slot is kept until all have used it. Reader 0 is
  /// there from the start; who adds one has it ask from the same thread or another, and takes it away at its end, or the
  /// others wait for it. Models that run as one reader each (guidance branches, requests) stay within a ring of each
  /// other.
  int add_reader();
  void remove_reader(int reader);

  uint64_t slot_bytes() const { return slot_bytes_; }
  /// Of all slots.
  uint64_t num_bytes() const { return slot_bytes_ * static_cast<uint64_t>(options_.slots); }
  RingCounts counts() const;

 private:
  struct Shared;
  const RingOptions options_;
  uint64_t slot_bytes_ = 0;
  std::shared_ptr<Shared> shared_;  // with the deleters of tensors
  std::jthread lane_;
};

}  // namespace kinora::offload
