#include "kinora/parallel/block_attention.h"

#include <cmath>

#include "kinora/base/error.h"

namespace kinora::parallel {
namespace {

at::ScalarType wide(const Tensor& t) { return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

double scale_of(const Tensor& q) { return 1 / std::sqrt(static_cast<double>(q.size(3))); }

}  // namespace

Partial attend_part_by_products(const Tensor& q, const Tensor& k, const Tensor& v) {
  const auto type = wide(q);
  const Tensor scores = at::matmul(q.to(type) * scale_of(q), k.to(type).transpose(-2, -1));
  const Tensor lse = scores.logsumexp(-1);
  return {at::matmul((scores - lse.unsqueeze(-1)).exp(), v.to(type)).to(q.scalar_type()), lse};
}

Partial attend_part(const Tensor& q, const Tensor& k, const Tensor& v) {
  KINORA_ASSERT(k.size(2) > 0);
  if (q.numel() == 0) return {at::empty_like(q), at::empty(q.sizes().slice(0, 3), q.options().dtype(wide(q)))};
  if (!q.is_cpu()) return attend_part_by_products(q, k, v);
  auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, false, std::nullopt, scale_of(q));
  return {out, lse};
}

Partial merge(const Partial& so_far, const Partial& next) {
  const Tensor out = next.out.to(wide(next.out));
  if (!so_far.out.defined()) return {out, next.lse};
  const Tensor lse = at::logaddexp(so_far.lse, next.lse);
  const auto weight = [&](const Tensor& part) { return (part - lse).exp().unsqueeze(-1); };
  return {so_far.out * weight(so_far.lse) + out * weight(next.lse), lse};
}

PartGradients attend_part_backward_by_products(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                               const Partial& of_whole) {
  const auto type = wide(q);
  const Tensor qs = q.to(type), ks = k.to(type), vs = v.to(type), g = grad.to(type);
  const Tensor weights =
      (at::matmul(qs * scale_of(q), ks.transpose(-2, -1)) - of_whole.lse.unsqueeze(-1)).exp();  // of the whole softmax
  const Tensor mean = (g * of_whole.out.to(type)).sum(-1, true);
  const Tensor of_scores = weights * (at::matmul(g, vs.transpose(-2, -1)) - mean) * scale_of(q);
  const auto like = [](const Tensor& t, const Tensor& x) { return t.to(x.scalar_type()); };
  return {like(at::matmul(of_scores, ks), q), like(at::matmul(of_scores.transpose(-2, -1), qs), k),
          like(at::matmul(weights.transpose(-2, -1), g), v)};
}

PartGradients attend_part_backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                   const Partial& of_whole) {
  if (q.numel() == 0) return {at::zeros_like(q), at::zeros_like(k), at::zeros_like(v)};
  if (!q.is_cpu()) return attend_part_backward_by_products(grad, q, k, v, of_whole);
  auto [of_q, of_k, of_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      grad, q, k, v, of_whole.out, of_whole.lse, 0.0, false, std::nullopt, scale_of(q));
  return {of_q, of_k, of_v};
}

}  // namespace kinora::parallel
