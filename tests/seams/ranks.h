// Two ranks in one process: threads that exchange tensors through a mailbox, and the layouts that DSP (Zhao et al.
// 2024) and Ulysses (Jacobs et al. 2023) put on them. Every exchange is one dispatcher operator, its own transpose,
// so it works in backward and capture.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "kinora/nn/layout.h"

namespace kinora::seams {

/// All-to-all between threads. Throws PeerError when a peer does not come in time or comes with another shape.
class Mailbox {
 public:
  explicit Mailbox(int ranks, std::chrono::milliseconds patience = std::chrono::milliseconds(2000))
      : posts_(static_cast<size_t>(ranks)), patience_(patience) {}
  int ranks() const { return static_cast<int>(posts_.size()); }
  /// slabs [ranks, ...]: slab i goes to rank i. -> slab i is from rank i.
  Tensor exchange(int rank, const Tensor& slabs);

 private:
  void barrier();

  std::vector<Tensor> posts_;
  std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  uint64_t round_ = 0;
};

/// A rank's end of the mailbox. Operators carry its address, so it outlives every graph that was captured with it.
struct Endpoint {
  Mailbox* mailbox = nullptr;
  int rank = 0;
  int exchanges = 0;
  bool skips = false;              ///< broken on purpose: hands back what it was given
  bool behind_dispatcher = false;  ///< broken on purpose: exchanges without the operator
};

/// Video rows sharded along `home`. Around attention along the home axis: all-to-all to the other axis and back
/// (DSP); around joint attention: all-to-all to heads and back, text heads cut and gathered (Ulysses).
class TwoRanks : public Layout {
 public:
  TwoRanks(Endpoint& endpoint, Axis home) : endpoint_(endpoint), home_(home) {}
  Tensor local(const Tensor& whole, Axis axis, int dim) const override;
  Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const override;
  Streams with_whole(Axis axis, const Extent& extent, Streams streams,
                     c10::function_ref<Streams(Streams)> f) const override;
  Streams attention(const Heads& video, const Heads* text, const Tensor& mask, const Extent& extent) const override;
  Tensor sum(const Tensor& partial) const override;
  Tensor own(const Tensor& local, const Extent& extent) const override;

 private:
  int64_t ranks() const { return endpoint_.mailbox->ranks(); }
  Tensor exchange(const Tensor& slabs) const;
  Tensor gather(const Tensor& part, int64_t dim) const;
  Tensor pad(const Tensor& t, int64_t dim) const;
  std::vector<Tensor> cut(const Tensor& t, int64_t dim) const;

  Endpoint& endpoint_;
  Axis home_;
};

/// Runs `f` as each rank, each on a thread of its own with gradients off unless `f` turns them on; throws what the
/// lowest rank threw.
void run_ranks(Mailbox& mailbox, const std::function<void(Endpoint&)>& f, bool skips = false);

}  // namespace kinora::seams
