#include "kinora/models/common/embeddings.h"

#include <cmath>

namespace kinora::models {

Tensor timestep_frequencies(const Tensor& t, int64_t width, bool flip_sin_to_cos, double freq_shift) {
  const int64_t half = width / 2;
  const auto options = t.options().dtype(at::kFloat);
  const Tensor exponent = at::arange(half, options) * (-std::log(10000.0) / (static_cast<double>(half) - freq_shift));
  const Tensor angles = t.to(at::kFloat).unsqueeze(1) * exponent.exp();
  const Tensor table =
      flip_sin_to_cos ? at::cat({angles.cos(), angles.sin()}, 1) : at::cat({angles.sin(), angles.cos()}, 1);
  return width % 2 == 0 ? table : at::constant_pad_nd(table, {0, 1});
}

TimestepEmbedding::TimestepEmbedding(const Scope& scope, int64_t in, int64_t width, ops::Activation activation)
    : mlp_(scope / "linear_1", scope / "linear_2", in, width, width, activation) {}

}  // namespace kinora::models
