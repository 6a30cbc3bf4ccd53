// Rotary positions (Su et al. 2021) as Llama's published weights want them: pair i of a head is (i, i + D / 2).
// N tokens, D width of a head.
#pragma once

#include <ATen/ATen.h>

#include "kinora/models/decoder/config.h"

namespace kinora::models::decoder {

using at::Tensor;

/// cos and sin [N, D / 2], float32; undefined in models with learned positions.
struct Rotary {
  Tensor cos, sin;
};

/// Radians a token for each pair, [D / 2] in float32: theta^(-2i / D), stretched where the config says so.
Tensor rope_frequencies(const DecoderConfig& config);

/// Tables of positions first .. first + n - 1.
Rotary rotary_of(const DecoderConfig& config, int64_t first, int64_t n, at::Device device = at::kCPU);

/// x [..., N, D], turned in float32 at least -> the same in x's dtype.
Tensor rotate(const Tensor& x, const Rotary& rotary);

}  // namespace kinora::models::decoder
