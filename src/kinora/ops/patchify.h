// From pixels of a latent to rows of patches; unpatchify.h is the way back. B batch, C channels, T frames, H and W pixels.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops {

using at::Tensor;

/// Patches of size b that cover a: the last one may reach beyond.
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Non-overlapping patches through one linear map (Peebles & Xie 2023). x [B, C, T, H, W] is padded behind with zeros to whole patches.
/// weight [out, C, pt, ph, pw], bias [out] -> [B, T/pt, (H/ph) (W/pw), out]. Throws UsageError when the shapes do not fit each other.
Tensor patchify(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

}  // namespace kinora::ops
