// Convolutions. B batch, C channels, T frames, H and W pixels of a latent.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops {

using at::Tensor;

/// Convolution with zero padding on both sides of each trailing dim. x [B, in, (T,) H, W], weight [out, in, kernel...], bias [out];
/// stride and padding have a number for each dim of the kernel (2 or 3). Throws UsageError when they or the shapes do not fit each other.
Tensor conv(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::IntArrayRef stride,
            at::IntArrayRef padding);

/// What a convolution of this dtype is computed in on a CPU: float32 for bfloat16 where oneDNN has no kernels for it
/// (x86-64 without AVX-512).
at::ScalarType conv_dtype(at::ScalarType dtype);

}  // namespace kinora::ops
