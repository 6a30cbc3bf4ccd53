// Seam 3, layouts: where rows live. Activations cross the seam as [B, T, S, C] (batch, frames, rows of a frame, width),
// cut along one home axis; each rank has its share of it, possibly none, and nothing is padded. The base class is the
// layout of one process: everything is the identity, and costs nothing.
#pragma once

#include <ATen/ATen.h>

#include <c10/util/FunctionRef.h>

#include <optional>
#include <vector>

namespace kinora {

using at::Tensor;
using Streams = std::vector<Tensor>;  ///< [0] video rows; [1] text rows in models with two streams

struct Run;

/// An axis of [B, T, S, C] that can be cut.
enum class Axis : int { frames = 1, rows = 2 };

/// Sizes of the whole. A layout cannot know them from a share.
struct Extent {
  int64_t frames = 1;
  int64_t rows = 1;
  int64_t of(Axis axis) const { return axis == Axis::frames ? frames : rows; }
};

/// Query, key and value of one stream, heads before rows.
struct Heads {
  Tensor q, k, v;
};

/// What a bracket encloses: a block, or in it the self-attention with its projections.
enum class Part : uint8_t { block, attention };
struct Bracket {
  Part part = Part::attention;
  std::optional<Axis> along;  ///< rows attend to each other along this axis; none: every row to all of its sample
  Extent extent;
};

/// Gradients: the backward of each exchange is its transpose. The loss counts once over all ranks (each takes its
/// share) and parameter gradients are summed over ranks; then they equal those of one process.
class Layout {
 public:
  virtual ~Layout() = default;
  /// This rank's part of a tensor whose dimension `dim` runs along `axis`: inputs, position tables, frame masks,
  /// per-frame modulation. Models ask for both axes: a layout cuts its home axis and leaves the other alone, and no
  /// model knows which is home.
  virtual Tensor local(const Tensor& whole, Axis axis, int dim) const;
  /// The inverse of `local`.
  virtual Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const;
  /// Runs `f` on streams [B, T, S, C] and, where there is one, [B, L, C], whose rows may lie elsewhere while it runs; ->
  /// streams as they came. The Run that `f` gets is the bracket's: its layout knows which rows are there, its weights
  /// which heads. Only what is inside pays an exchange, so a site that is reused never enters it.
  virtual Streams around(const Run& run, const Bracket& bracket, Streams streams,
                         c10::function_ref<Streams(const Run&, Streams)> f) const;
  /// Rows attend to each other along one axis: q, k, v [B, O, A, R, D], R this rank's rows of `along`, O those of the
  /// other axis -> [B, O, A, R, D]. In the bracket of its sublayer.
  virtual Tensor attend(const Heads& heads, Axis along, const Extent& extent) const;
  /// Every row attends to all of its sample: q, k, v [B, A, R, D], R this rank's rows frame by frame, and of text rows,
  /// where given, which are the same on every rank -> one [B, A, R, D] a stream. In the bracket of its sublayer.
  virtual Streams attend_all(const Heads& video, const Heads* text, const Extent& extent) const;
  /// Sum of a partial result over ranks, in the order of ranks: cache decisions, group statistics.
  virtual Tensor sum(const Tensor& partial) const;
};

/// The layout of one process.
const Layout& whole_layout();

}  // namespace kinora
