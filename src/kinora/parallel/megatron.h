// Megatron's sequence parallelism (Korthikanti et al. 2022, arXiv 2205.05198) for the attention that needs foreign rows:
// its input is gathered, each rank computes some heads, with its part of the projections, and what they add up to is
// scattered. Rows stay cut everywhere else, MLPs included. For models whose norms of queries and keys look at one head
// at a time; to be compared with: DSP and Ulysses send less.
#pragma once

#include "kinora/nn/weights.h"
#include "kinora/parallel/home.h"

namespace kinora::parallel {

/// The heads of one rank, cut from whole weights: of the layers "qkv", "to_q", "to_k" and "to_v" the rows of its heads,
/// of "proj" and "to_out.0" the columns, and the bias of these on the first rank alone. Vectors of one head's width are
/// every head's. Throws UsageError for any other layer.
class HeadWeights final : public WeightSource {
 public:
  HeadWeights(WeightSource& whole, int64_t heads, int64_t head_dim, const Communicator& group);
  Tensor get(const Param& param) override;
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override;

 private:
  Tensor own_rows(const Tensor& t, int64_t parts) const;

  WeightSource& whole_;
  int64_t heads_, head_dim_, first_, count_;
  bool adds_bias_;
};

class Megatron final : public Layout {
 public:
  static constexpr const char* kGather = "megatron gather";
  static constexpr const char* kScatter = "megatron scatter";
  static constexpr const char* kText = "megatron text";

  Megatron(Communicator& group, Axis home, int64_t heads, int64_t head_dim)
      : home_(group, home), heads_(heads), head_dim_(head_dim) {}
  Tensor local(const Tensor& whole, Axis axis, int dim) const override { return home_.local(whole, axis, dim); }
  Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const override {
    return home_.whole(local, axis, dim, extent);
  }
  Streams around(const Run& run, const Bracket& bracket, Streams streams,
                 c10::function_ref<Streams(const Run&, Streams)> f) const override;
  Tensor sum(const Tensor& partial) const override { return home_.sum(partial); }

 private:
  Home home_;
  int64_t heads_, head_dim_;
};

}  // namespace kinora::parallel
