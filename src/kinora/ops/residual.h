// What closes a sublayer: the gate and the residual sum.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops {

using at::Tensor;

/// x + y * gate, or x + y without a gate. x and y [..., C] of equal shape; gate broadcasts. Never writes x: policies may hold it.
/// Throws UsageError when x and y differ in shape (two layouts met at a residual).
Tensor add_residual(const Tensor& x, const Tensor& y, const std::optional<Tensor>& gate = std::nullopt);

}  // namespace kinora::ops
