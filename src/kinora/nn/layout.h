// Seam 3, layouts: where rows live. Activations cross the seam as [B, T, S, C] (batch, frames, rows of a frame, width),
// sharded along one home axis. The base class is the layout of one process: everything is the identity.
#pragma once

#include <ATen/ATen.h>

#include <c10/util/FunctionRef.h>

#include <vector>

namespace kinora {

using at::Tensor;
using Streams = std::vector<Tensor>;  ///< [0] video rows; [1] text rows in models with two streams

/// An axis of [B, T, S, C] that can be sharded.
enum class Axis : int { frames = 1, rows = 2 };

/// Unsharded sizes. A layout cannot know them from a shard: the last shard is padded.
struct Extent {
  int64_t frames = 1;
  int64_t rows = 1;
  int64_t of(Axis axis) const { return axis == Axis::frames ? frames : rows; }
};

/// Query, key and value of one stream: [B, A, rows, D].
struct Heads {
  Tensor q, k, v;
};

/// Gradients: the backward of each exchange is its transpose. The loss counts once over all ranks (each takes its
/// share) and parameter gradients are summed over ranks; then they equal those of one process.
class Layout {
 public:
  virtual ~Layout() = default;
  /// This rank's part of a tensor whose dimension `dim` runs along `axis`: inputs, position tables, frame masks,
  /// per-frame modulation. The last part is padded with zeros. Models ask for both axes: a layout cuts its home axis
  /// and leaves the other alone, and no model knows which is home.
  virtual Tensor local(const Tensor& whole, Axis axis, int dim) const;
  /// The inverse of `local`: gathers and cuts the padding to `extent`.
  virtual Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const;
  /// DSP's bracket: runs `f` on the streams [B, T, S, C] with `axis` whole and returns to the home layout. Only what is
  /// inside pays the exchange, so a site that is reused never enters it.
  virtual Streams with_whole(Axis axis, const Extent& extent, Streams streams,
                             c10::function_ref<Streams(Streams)> f) const;
  /// Joint attention over video rows and, where given, text rows, which are the same on every rank. Returns one [B, A,
  /// rows, D] per stream. mask: [B, 1, 1, text + video keys] of the whole, true takes part, or undefined. `extent`
  /// counts whole video rows; rows of a stream lie frame by frame, so a layout finds the padding again and cuts it
  /// before anything attends.
  virtual Streams attention(const Heads& video, const Heads* text, const Tensor& mask, const Extent& extent) const;
  /// Sum of a partial result over ranks, in the order of ranks: cache decisions, group statistics.
  virtual Tensor sum(const Tensor& partial) const;
  /// This rank's video rows [B, T, S, C] without the padding: what enters a sum over rows. Padded rows hold whatever
  /// blocks made of zeros, and a decision that counts them is not the decision of one process.
  virtual Tensor own(const Tensor& local, const Extent& extent) const;
};

/// The layout of one process.
const Layout& whole_layout();

}  // namespace kinora
