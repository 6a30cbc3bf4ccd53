// One pass over memory in place of a chain of ATen calls: what the CPU takes for float32 and bfloat16 when no gradient
// is wanted, and where fused_backward.h has the operator's other half. Computes in float32 and rounds once, except
// where a step's rounding is promised (add_residual). A row's bits depend on that row alone, never on the batch or the
// number of threads.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace kinora::ops::cpu {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

/// Keys up to which short_attention is taken: one vector of scores. Narrow heads take fused_attention.h before it.
constexpr int64_t kShortKeys = 16;

/// Each is the operator of the same name; nullopt: not for these dtypes or strides, take the reference.
MaybeTensor layer_norm(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, const MaybeTensor& scale,
                       const MaybeTensor& shift, double eps);
MaybeTensor gelu_tanh(const Tensor& x);
MaybeTensor add_residual(const Tensor& x, const Tensor& y, const MaybeTensor& gate);
/// Of x [..., A, N, D]; the result has the memory order that ops::qk_norm_rotary promises.
MaybeTensor qk_norm_rotary(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                           const MaybeTensor& cos, const MaybeTensor& sin);
/// Without mask, for few keys (attention along the frames of a short clip), whatever the number of queries: fused
/// attention spends its time on preparing products that are this small.
MaybeTensor short_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale);

}  // namespace kinora::ops::cpu
