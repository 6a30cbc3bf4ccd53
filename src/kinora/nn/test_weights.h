// For tests of models: weights that leave no part of a model without effect, as the training's first values would.
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

}  // namespace kinora
