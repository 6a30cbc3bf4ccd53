// Linear layers divided between the CPU and a device (HeteGen, Zhao et al. 2024): the CPU computes the first output
// features from weights that never leave the host's memory, while the rest comes over the link and is multiplied on the
// device. Rates add up: W / (v_c + v_l) seconds for W bytes (schedule.h). An output feature is the same dot product
// wherever it is computed: on a CPU the bits are those of the whole in float32 and bfloat16, and float64 agrees up to
// rounding (its products of fewer columns take other kernels).
#pragma once

#include <memory>
#include <vector>

#include "kinora/offload/alpha.h"
#include "kinora/offload/streamed.h"

namespace kinora::offload {

struct SplitOptions {
  RingOptions ring = {};
  /// Stands for a CPU of that rate (bytes of weight a second), for tests; 0: the CPU that there is.
  double cpu_rate = 0;
};

class SplitWeights final : public SourceById {
 public:
  /// `cpu_rows`, by id: how many rows of a streamed weight the CPU takes; 0 where the plan streams nothing of it.
  SplitWeights(const Params& params, const StreamPlan& plan, std::vector<int64_t> cpu_rows, WeightStore& store,
               const SplitOptions& options = {});
  ~SplitWeights() override;

  Tensor get(const Param& param) override;
  RingCounts counts() const { return ring_->counts(); }

  bool is_by_id(int32_t id) const override { return !resident_.at(static_cast<size_t>(id)).defined(); }
  Tensor linear_now(const Tensor& x, int32_t id, const std::optional<Tensor>& bias) override;
  Tensor weight_now(int32_t id) override;
  int64_t out_features(int32_t id) const override { return params_[id].shape[0]; }

 private:
  class CpuLane;
  const Params& params_;
  SplitOptions options_;
  std::vector<int64_t> cpu_rows_;
  std::vector<Tensor> resident_, host_;  // by id; undefined where there is none
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<CpuLane> cpu_;
};

/// The alpha benchmark for every shape among the streamed weights of the plan, for inputs of `tokens` rows: -> the CPU's
/// rows by id. Takes as long as some passes over one layer of each shape.
std::vector<int64_t> plan_split(const Params& params, const StreamPlan& plan, WeightStore& store, at::Device device,
                                int64_t tokens, const AlphaOptions& options = {});

}  // namespace kinora::offload
