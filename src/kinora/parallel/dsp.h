// Dynamic Sequence Parallelism (Zhao et al. 2024, arXiv 2403.10266): where rows attend along the axis that is cut, one
// all_to_all makes it whole and cuts the other, and one brings the rows home. For models whose self-attention runs along
// one axis at a time.
#pragma once

#include <optional>

#include "kinora/parallel/home.h"

namespace kinora::parallel {

class Dsp final : public Layout {
 public:
  /// What is switched: the input and output of the self-attention, so that a reused attention exchanges nothing; or the
  /// stream, around each block whose attention runs along the home axis, so that such blocks lie whole in the other
  /// layout. Both send the same bytes.
  enum class Form { attention, stream };
  static constexpr const char* kThere = "dsp there";
  static constexpr const char* kBack = "dsp back";

  /// Rows of the other axis that each rank gets of a piece at least: a matrix product of one row has other bits.
  static constexpr int64_t kLeastRows = 2;

  /// pieces: how many an exchange around an attention is cut into, along the other axis; fewer where there are few rows.
  /// The attention then runs on each by itself.
  Dsp(Communicator& group, Axis home, Form form = Form::attention, int pieces = 1)
      : home_(group, home), form_(form), pieces_(pieces) {}
  Tensor local(const Tensor& whole, Axis axis, int dim) const override;
  Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const override {
    return home_.whole(local, axis, dim, extent);
  }
  Streams around(const Run& run, const Bracket& bracket, Streams streams,
                 c10::function_ref<Streams(const Run&, Streams)> f) const override;
  /// Throws UsageError: with every row attending to all, no axis is free to be cut instead.
  Streams attend_all(const Heads& video, const Heads* text, const Extent& extent) const override;
  Tensor sum(const Tensor& partial) const override { return home_.sum(partial); }

 private:
  Home home_;
  Form form_;
  int pieces_;
  struct Range {
    int64_t begin, count;
  };
  std::optional<Range> of_;  ///< the run of the home axis that is dealt out, where it is a piece
};

}  // namespace kinora::parallel
