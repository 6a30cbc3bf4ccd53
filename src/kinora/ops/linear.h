// Linear layers and the activations between them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace kinora::ops {

using at::Tensor;

/// gelu_tanh is 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); gelu is exact (Hendrycks & Gimpel 2016).
enum class Activation : int64_t { none, silu, gelu, gelu_tanh, relu };

/// y = x W^T + b. x [..., in], weight [out, in], bias [out] -> [..., out]; one floating dtype.
Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

/// Elementwise, shape and dtype of x. Throws UsageError for a value that is no Activation.
Tensor activate(const Tensor& x, Activation activation);

}  // namespace kinora::ops
