// A static plan for the memory of a computation that repeats: the first run notes every tensor that is allocated, LibTorch's
// own temporaries included, and when it is freed; later runs get each from a fixed place in one buffer and ask the
// system for nothing. CPU only: LibTorch's CUDA tensors do not come from a replaceable allocator.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace kinora::graph {

/// From here on CPU tensors pass by the arenas, to whatever allocator was installed before (tensor/allocator.h first).
/// For a program's main, as that one is. Without it arenas do nothing.
void install_arena_allocator();

/// A block of memory in time: alive for events begin .. end - 1.
struct Interval {
  int64_t bytes = 0;
  int begin = 0, end = 0;
};

struct Offsets {
  std::vector<int64_t> at;  ///< of each interval, multiples of 64
  int64_t bytes = 0;        ///< of a buffer that holds them
  int64_t bound = 0;        ///< the most that is alive at once: no buffer can be smaller
};

/// Greedy by size (Pisarchyk & Lee 2020): the largest first, each at the lowest place that is free in its time.
Offsets place(std::span<const Interval> intervals);

/// The buffers of arenas that are never used at the same time.
class ArenaMemory {
 public:
  /// The buffer, at least so large. Only between runs.
  at::Tensor buffer(int64_t bytes);
  /// Memory for a tensor that outlives a run: a place of this size that nobody uses, a new one where there is none.
  /// is_new: it was taken from the system.
  c10::DataPtr lasting(size_t bytes, bool& is_new);

 private:
  struct Slot;
  at::Tensor buffer_;
  std::vector<std::shared_ptr<Slot>> slots_;
};

class Arena {
 public:
  explicit Arena(std::shared_ptr<ArenaMemory> memory) : memory_(std::move(memory)) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Runs `f` with this thread's tensors in the arena. A run that asks for other sizes, or holds a tensor for longer,
  /// than the first is served by the system where they differ: slower, never wrong. Does not nest.
  void run(const std::function<void()>& f);

  struct Counts {
    int64_t runs = 0;
    int64_t served = 0;   ///< blocks of the last run that came from the arena
    int64_t outside = 0;  ///< blocks of the last run that the system gave
    int64_t bytes = 0, bound = 0;
  };
  const Counts& counts() const { return counts_; }

  struct Trace;  ///< arena.cpp
 private:
  std::shared_ptr<ArenaMemory> memory_;
  std::shared_ptr<Trace> trace_;
  Counts counts_;
};

}  // namespace kinora::graph
