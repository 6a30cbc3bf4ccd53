// One pass over memory for each operator's backward on the CPU, for float32 and bfloat16. Computes in float32 and
// rounds once. Sums over rows are taken in chunks of a fixed size, so that no bit depends on the number of threads.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops::cpu {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

/// Throws UsageError where a graph of the gradients is asked for: the passes below record none.
void refuse_second_backward(const char* op);

/// has_..._backward: whether the pass below takes what the operator of that name was given; else the reference.
/// Layer norm without affine part; scale and shift are each for a run of x's rows, as [B, 1, 1, C] and [B, T, 1, C]
/// are.
bool has_layer_norm_backward(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                             const MaybeTensor& scale, const MaybeTensor& shift);
struct LayerNormGrads {
  Tensor x, scale, shift;
};
/// `like`: of which shape scale and shift are (undefined: neither). Of scale and shift those that are wanted.
LayerNormGrads layer_norm_backward(const Tensor& grad, const Tensor& x, const MaybeTensor& scale, const Tensor& like,
                                   double eps, bool wants_scale, bool wants_shift);

bool has_gelu_tanh_backward(const Tensor& x);
Tensor gelu_tanh_backward(const Tensor& grad, const Tensor& x);

bool has_residual_backward(const Tensor& x, const Tensor& y, const MaybeTensor& gate);
struct ResidualGrads {
  Tensor y, gate;
};
ResidualGrads residual_backward(const Tensor& grad, const Tensor& y, const Tensor& gate, bool wants_gate);

/// Root mean square norm or none; tables without gradients.
bool has_norm_rotary_backward(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                              const MaybeTensor& cos, const MaybeTensor& sin);
struct NormRotaryGrads {
  Tensor x, weight;
};
/// x [..., A, N, D] with its heads outside or inside; the gradient of x has x's order of memory.
NormRotaryGrads norm_rotary_backward(const Tensor& grad, const Tensor& x, const MaybeTensor& weight, double eps,
                                     const MaybeTensor& cos, const MaybeTensor& sin);

}  // namespace kinora::ops::cpu
