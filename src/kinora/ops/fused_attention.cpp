#include "kinora/ops/fused_attention.h"

#include <cmath>

#include "kinora/ops/fused_host.h"

namespace kinora::ops::cpu {
namespace {

bool has_heads(const Tensor& t, const Tensor& q) {
  return t.is_cpu() && t.scalar_type() == q.scalar_type() && t.numel() > 0 && t.size(-1) == q.size(3) &&
         (t.size(-1) == 1 || t.stride(-1) == 1);
}

/// Packed rows belong to no sample: key_begins says where each sample's are.
template <typename T>
HeadTensor<T> heads_of(const Tensor& t) {
  auto* const data = static_cast<T*>(const_cast<void*>(t.const_data_ptr()));
  if (t.dim() == 3) return {data, {0, t.stride(0), t.stride(1)}};
  return {data, {t.stride(0), t.stride(1), t.stride(2)}};
}

/// work(rows, begin, end) over all samples' heads.
template <typename Work>
void run(const Tensor& q, const Tensor& k, const Tensor& v, at::OptionalIntArrayRef key_lengths,
         std::optional<double> scale, const Work& work) {
  const int64_t queries = q.size(2), width = q.size(3), keys = key_lengths ? 0 : k.size(2);
  std::vector<int64_t> begins, counts;
  int64_t total = 0;
  if (key_lengths) {
    for (const int64_t n : *key_lengths) begins.push_back(total), counts.push_back(n), total += n;
  }
  const double by = scale.value_or(1.0 / std::sqrt(static_cast<double>(width)));
  for_dtype(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const BlockAttention<T> a{.q = heads_of<const T>(q),
                              .k = heads_of<const T>(k),
                              .v = heads_of<const T>(v),
                              .out = {},
                              .key_begins = key_lengths ? begins.data() : nullptr,
                              .key_counts = key_lengths ? counts.data() : nullptr,
                              .heads = q.size(1),
                              .queries = queries,
                              .keys = keys,
                              .width = width,
                              .scale = static_cast<float>(by),
                              .grad = {},
                              .of_q = {},
                              .of_k = {},
                              .of_v = {}};
    const int64_t many = key_lengths ? total / static_cast<int64_t>(counts.size()) + 1 : keys;
    for_rows(q.size(0) * q.size(1), queries * many * width, 0,
             [&](float*, int64_t begin, int64_t end) { work(a, begin, end); });
  });
}

}  // namespace

bool has_block_attention(const Tensor& q, const Tensor& k, const Tensor& v, at::OptionalIntArrayRef key_lengths) {
  if (!has_kernel(q) || q.dim() != 4 || q.size(3) > kMostBlockWidth) return false;
  if (!has_heads(q, q) || !has_heads(k, q) || !has_heads(v, q)) return false;
  if (!key_lengths) return k.dim() == 4 && k.size(2) <= kMostBlockKeys;
  return std::all_of(key_lengths->begin(), key_lengths->end(), [](int64_t n) { return n <= kMostBlockKeys; });
}

Tensor block_attention(const Tensor& q, const Tensor& k, const Tensor& v, at::OptionalIntArrayRef key_lengths,
                       std::optional<double> scale) {
  Tensor out = at::empty_like(q);
  run(q, k, v, key_lengths, scale, [&](auto a, int64_t begin, int64_t end) {
    using T = std::remove_pointer_t<decltype(a.out.data)>;
    a.out = heads_of<T>(out);
    kernels<T>().block_attention(a, begin, end);
  });
  return out;
}

AttentionGrads block_attention_backward(const Tensor& any_grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                        at::OptionalIntArrayRef key_lengths, std::optional<double> scale) {
  const Tensor grad = any_grad.size(3) == 1 || any_grad.stride(3) == 1 ? any_grad : any_grad.contiguous();
  AttentionGrads grads{at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  run(q, k, v, key_lengths, scale, [&](auto a, int64_t begin, int64_t end) {
    using T = std::remove_pointer_t<decltype(a.out.data)>;
    a.grad = heads_of<const T>(grad);
    a.of_q = heads_of<T>(grads.q), a.of_k = heads_of<T>(grads.k), a.of_v = heads_of<T>(grads.v);
    kernels<T>().block_attention_backward(a, begin, end);
  });
  return grads;
}

}  // namespace kinora::ops::cpu
