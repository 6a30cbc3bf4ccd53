// Attention over few keys of narrow heads in one pass, and its backward in another: what the CPU takes for float32 and
// bfloat16 where fused attention spends its time on preparing products that are this small. Computes in float32 and
// rounds once; a query's bits depend on its own keys alone.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops::cpu {

using at::Tensor;

/// q [B, A, N, D] over k and v [B, A, M, D], or where key_lengths are given over packed ones [A, sum(key_lengths), D].
bool has_block_attention(const Tensor& q, const Tensor& k, const Tensor& v, at::OptionalIntArrayRef key_lengths);

/// [B, A, N, D] in q's order of memory.
Tensor block_attention(const Tensor& q, const Tensor& k, const Tensor& v, at::OptionalIntArrayRef key_lengths,
                       std::optional<double> scale);

/// Each in the order of memory of what it is the gradient of.
struct AttentionGrads {
  Tensor q, k, v;
};
AttentionGrads block_attention_backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                        at::OptionalIntArrayRef key_lengths, std::optional<double> scale);

}  // namespace kinora::ops::cpu
