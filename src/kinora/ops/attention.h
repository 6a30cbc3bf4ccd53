// Scaled dot-product attention (Vaswani et al. 2017) and what happens to queries and keys before it.
// B batch, A heads, N queries, M keys, D width of a head.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops {

using at::Tensor;

/// softmax(q k^T * scale + mask) v. q [B, A, N, D], k and v [B, A, M, D] -> [B, A, N, D]. mask broadcasts to [B, A, N, M]: bool
/// (true takes part) or additive in q's dtype. scale: D^-0.5 unless given. Softmax in float32 at least. Throws UsageError when the
/// shapes do not fit each other.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask = std::nullopt,
                 std::optional<double> scale = std::nullopt);

/// Attention of equally long queries over packed keys of different lengths: sample b sees only its own key_lengths[b] rows.
/// q [B, A, N, D], k and v [A, sum(key_lengths), D] -> [B, A, N, D]. Throws UsageError when the lengths or the shapes do not fit.
Tensor attention_packed(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef key_lengths,
                        std::optional<double> scale = std::nullopt);

/// Norm of each head's query or key, then rotary position embedding (Su et al. 2021) in interleaved pairs (2i, 2i+1).
/// x [..., A, N, D] -> the same; contiguous, or [..., N, A, D] in memory where x has its heads inside of the rows.
/// weight and bias [D] or none: with bias layer norm, with weight only RMS norm, with neither no norm. cos and sin
/// [N, D/2], or [B, 1, N, D/2], or none of both: no rotation. out_2i = a cos - b sin, out_2i+1 = b cos + a sin.
Tensor qk_norm_rotary(const Tensor& x, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                      double eps, const std::optional<Tensor>& cos, const std::optional<Tensor>& sin);

}  // namespace kinora::ops
