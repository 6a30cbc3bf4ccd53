// Convolutions and patches. B batch, C channels, T frames, H and W pixels of a latent.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops {

using at::Tensor;

/// Convolution with zero padding on both sides of each trailing dim. x [B, in, (T,) H, W], weight [out, in, kernel...], bias [out].
Tensor conv(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::IntArrayRef stride,
            at::IntArrayRef padding);

/// Non-overlapping patches through one linear map (Peebles & Xie 2023). x [B, C, T, H, W] is padded behind with zeros to whole patches.
/// weight [out, C, pt, ph, pw], bias [out] -> [B, T/pt, (H/ph) (W/pw), out].
Tensor patchify(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

}  // namespace kinora::ops
