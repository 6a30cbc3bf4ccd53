// Norms, with the modulation of adaptive layer norm folded in.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "kinora/ops/linear.h"

namespace kinora::ops {

/// Layer norm over the last dim, affine where weight [C] (and bias [C]) are given, then y * (1 + scale) + shift where
/// given (adaLN, Peebles & Xie 2023, section 3.2). x [..., C]; scale and shift broadcast against x, as [B, 1, 1, C] or per
/// frame [B, T, 1, C] do. Statistics in float32 at least.
Tensor layer_norm(const Tensor& x, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                  const std::optional<Tensor>& scale, const std::optional<Tensor>& shift, double eps);

/// x / sqrt(mean(x^2) + eps) * weight over the last dim, computed in float32 at least (Zhang & Sennrich 2019). The product with
/// `weight` happens after the cast back to x's dtype, as T5 and Llama do.
Tensor rms_norm(const Tensor& x, const std::optional<Tensor>& weight, double eps);

/// Group norm of [B, C, ...] (Wu & He 2018), then `activation`. weight and bias [C].
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                  Activation activation = Activation::none);

}  // namespace kinora::ops
