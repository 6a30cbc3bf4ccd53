// Timesteps as vectors, as the transformers of diffusers share them. N numbers, C width.
#pragma once

#include "kinora/nn/layers.h"

namespace kinora::models {

/// Sinusoids of numbers t [N] (any dtype) -> [N, width] float32: [sin t f | cos t f], or the halves swapped;
/// f_i = 10000^(-i / (width / 2 - freq_shift)). An odd width ends in a zero.
Tensor timestep_frequencies(const Tensor& t, int64_t width, bool flip_sin_to_cos, double freq_shift);

/// linear_2(activation(linear_1(x))): x [N, in] -> [N, width]. "linear_1", "linear_2".
class TimestepEmbedding {
 public:
  TimestepEmbedding(const Scope& scope, int64_t in, int64_t width, ops::Activation activation = ops::Activation::silu);
  Tensor operator()(const Run& run, const Tensor& x) const { return mlp_(run, x); }

 private:
  Mlp mlp_;
};

}  // namespace kinora::models
