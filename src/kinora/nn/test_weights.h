// For tests of models: weights that leave no part of a model without effect, as the training's first values would, and
// a source that counts.
#pragma once

#include <cmath>
#include <vector>

#include "kinora/nn/weights.h"
#include "kinora/tensor/test_values.h"

namespace kinora {

/// A value for every parameter, by id: norms' gains around 1, other vectors around 0, and what multiplies rows such that
/// they keep about their size. What a parameter gets depends on its id and shape, not on its neighbours.
inline std::vector<Tensor> drawn_weights(const Params& params, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  std::vector<Tensor> values;
  for (const Param& p : params) {
    const bool is_vector = p.shape.size() < 2, is_gain = is_vector && p.name.ends_with("weight");
    const double scale = is_vector ? 0.2 : 0.8 / std::sqrt(static_cast<double>(p.shape.back()));
    const Tensor noise = normal(p.shape, seed + static_cast<uint64_t>(p.id)) * scale;
    values.push_back((is_gain ? noise + 1 : noise).to(dtype));
  }
  return values;
}

/// Counts what its linear layers multiply; a multiply-add counts 2.
class CountingWeights : public WeightSource {
 public:
  explicit CountingWeights(WeightSource& from) : from_(from) {}
  Tensor get(const Param& param) override { return from_.get(param); }
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override {
    flops += 2.0 * static_cast<double>(x.numel() * weight.shape[0]);
    return from_.linear(x, weight, bias);
  }
  double flops = 0;

 private:
  WeightSource& from_;
};

}  // namespace kinora
