#include "kinora/ops/attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/ops/fused_attention.h"
#include "kinora/ops/fused_backward.h"
#include "kinora/ops/fused_cpu.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

// Fused attention's backward is slow on short rows on the CPU (2.6x against matmuls at 36 rows): training takes this way.
constexpr int64_t kShortRows = 512;

bool in_training(const Tensor& q, const Tensor& k, const Tensor& v) {
  return at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
}

Tensor by_matmul(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& mask, double scale) {
  Tensor scores = at::matmul(q * scale, k.transpose(-2, -1));
  if (mask)
    scores = mask->scalar_type() == at::kBool ? scores.masked_fill(mask->logical_not(), -INFINITY) : scores + *mask;
  const auto wide = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::matmul(at::softmax(scores, -1, wide).to(v.scalar_type()), v);
}

Tensor attention_reference(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& mask,
                           std::optional<double> scale) {
  const bool is_short = std::max(q.size(2), k.size(2)) <= kShortRows;
  // A rank may own no rows or no heads, and ATen's fused attention on the CPU divides by their number.
  if (q.numel() == 0 || (q.is_cpu() && is_short && in_training(q, k, v))) {
    return by_matmul(q, k, v, mask, scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(3)))));
  }
  return at::scaled_dot_product_attention(q, k, v, mask, 0.0, false, scale);
}

Tensor attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& mask,
                     std::optional<double> scale) {
  if (mask || q.numel() == 0) return attention_reference(q, k, v, mask, scale);
  // Block attention first: packed samples take it too, and a caption's bits are the same alone.
  if (cpu::has_block_attention(q, k, v, std::nullopt)) return cpu::block_attention(q, k, v, std::nullopt, scale);
  if (const MaybeTensor fused = cpu::short_attention(q, k, v, scale)) return *fused;
  return attention_reference(q, k, v, mask, scale);
}

Tensor attention_meta(const Tensor& q, const Tensor&, const Tensor& v, const MaybeTensor&, std::optional<double>) {
  if (q.size(3) == v.size(3)) return at::empty_like(q);  // heads stay where the queries have them
  return q.new_empty({q.size(0), q.size(1), q.size(2), v.size(3)});
}

/// As the two captions of a guided clip are: then the samples are one batch.
bool all_equal(at::IntArrayRef lengths) {
  return std::all_of(lengths.begin(), lengths.end(), [&](int64_t n) { return n == lengths[0]; });
}

/// Every sample's keys padded to the longest's: autograd over many small products costs more than the padding.
Tensor padded(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef key_lengths,
              std::optional<double> scale) {
  const int64_t samples = q.size(0), longest = *std::max_element(key_lengths.begin(), key_lengths.end());
  const Tensor lengths = at::tensor(key_lengths, at::kLong).unsqueeze(1);
  const Tensor place = at::arange(longest, at::kLong).unsqueeze(0);
  const Tensor is_key = place < lengths;  // [B, longest]
  const Tensor row = (lengths.cumsum(0) - lengths + place).masked_fill(is_key.logical_not(), 0);
  const auto by_sample = [&](const Tensor& t) {
    return t.index_select(1, row.flatten().to(t.device())).unflatten(1, {samples, longest}).transpose(0, 1);
  };
  const Tensor mask = is_key.view({samples, 1, 1, longest}).to(q.device());
  return attention_reference(q, by_sample(k), by_sample(v), mask, scale);
}

template <auto kAttention>
Tensor packed(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef key_lengths,
              std::optional<double> scale) {
  if (all_equal(key_lengths)) {
    const auto by_sample = [&](const Tensor& t) { return t.unflatten(1, {q.size(0), -1}).transpose(0, 1); };
    return kAttention(q, by_sample(k), by_sample(v), std::nullopt, scale);
  }
  if (in_training(q, k, v)) return padded(q, k, v, key_lengths, scale);
  Tensor out = q.size(3) == v.size(2) ? at::empty_like(q)  // as attention does, so that the heads merge without a copy
                                      : q.new_empty({q.size(0), q.size(1), q.size(2), v.size(2)});
  int64_t begin = 0;
  for (int64_t b = 0; b < q.size(0); ++b) {
    const Tensor keys = k.narrow(1, begin, key_lengths[b]).unsqueeze(0),
                 values = v.narrow(1, begin, key_lengths[b]).unsqueeze(0);
    out.narrow(0, b, 1).copy_(kAttention(q.narrow(0, b, 1), keys, values, std::nullopt, scale));
    begin += key_lengths[b];
  }
  return out;
}

Tensor packed_cpu(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef key_lengths,
                  std::optional<double> scale) {
  if (!all_equal(key_lengths) && q.numel() > 0 && cpu::has_block_attention(q, k, v, key_lengths)) {
    return cpu::block_attention(q, k, v, key_lengths, scale);
  }
  return packed<&attention_cpu>(q, k, v, key_lengths, scale);
}

Tensor packed_meta(const Tensor& q, const Tensor&, const Tensor& v, at::IntArrayRef, std::optional<double>) {
  if (q.size(3) == v.size(2)) return at::empty_like(q);
  return q.new_empty({q.size(0), q.size(1), q.size(2), v.size(2)});
}

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const Tensor pairs = x.unflatten(-1, {-1, 2});
  const Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  return at::stack({a * cos - b * sin, b * cos + a * sin}, -1).flatten(-2).to(x.scalar_type());
}

/// Heads side by side in each row's memory, as one linear layer leaves queries and keys.
bool heads_inside(const Tensor& x) { return x.dim() >= 3 && x.stride(-3) < x.stride(-2); }

/// Tables for x [..., N, A, D].
MaybeTensor across_heads(const MaybeTensor& table) {
  if (!table) return std::nullopt;
  return table->dim() < 3 ? table->unsqueeze(-2) : table->transpose(-3, -2);
}

/// `f` of x and the tables in the order of memory, so that the result keeps that order: attention keeps it too, and
/// merging the heads afterwards is then a view.
template <typename F>
Tensor in_memory_order(const Tensor& x, const MaybeTensor& cos, const MaybeTensor& sin, const F& f) {
  if (!heads_inside(x)) return f(x, cos, sin);
  return f(x.transpose(-3, -2), across_heads(cos), across_heads(sin)).transpose(-3, -2);
}

Tensor norm_and_rotate(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                       const MaybeTensor& cos, const MaybeTensor& sin) {
  Tensor y = x;
  if (bias) {
    y = at::layer_norm(y, {y.size(-1)}, weight, bias, eps);
  } else if (weight) {
    y = rms_norm(y, weight, eps);
  }
  if (cos) y = rotate(y, *cos, *sin);
  return y.is_same(x) ? x.clone(at::MemoryFormat::Contiguous) : y.contiguous();
}

Tensor qk_norm_rotary_reference(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                                const MaybeTensor& cos, const MaybeTensor& sin) {
  return in_memory_order(x, cos, sin, [&](const Tensor& rows, const MaybeTensor& c, const MaybeTensor& s) {
    return norm_and_rotate(rows, weight, bias, eps, c, s);
  });
}

Tensor qk_norm_rotary_cpu(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                          const MaybeTensor& cos, const MaybeTensor& sin) {
  return in_memory_order(x, cos, sin, [&](const Tensor& rows, const MaybeTensor& c, const MaybeTensor& s) {
    const MaybeTensor fused = cpu::qk_norm_rotary(rows, weight, bias, eps, c, s);
    return fused ? *fused : norm_and_rotate(rows, weight, bias, eps, c, s);
  });
}

Tensor qk_norm_rotary_meta(const Tensor& x, const MaybeTensor&, const MaybeTensor&, double, const MaybeTensor& cos,
                           const MaybeTensor& sin) {
  return in_memory_order(x, cos, sin, [](const Tensor& rows, const MaybeTensor&, const MaybeTensor&) {
    return at::empty_like(rows, at::MemoryFormat::Contiguous);
  });
}

Tensor attention_with_grad(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& mask,
                           std::optional<double> scale);
Tensor packed_with_grad(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef key_lengths,
                        std::optional<double> scale);
Tensor qk_norm_rotary_with_grad(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                                const MaybeTensor& cos, const MaybeTensor& sin);

const Operator<&attention_reference, &attention_meta> attention_op(
    "kinora::attention(Tensor q, Tensor k, Tensor v, Tensor? mask, float? scale) -> Tensor", &attention_cpu,
    &attention_reference, &attention_with_grad);
const Operator<&packed<&attention_reference>, &packed_meta> packed_op(
    "kinora::attention_packed(Tensor q, Tensor k, Tensor v, int[] key_lengths, float? scale) -> Tensor", &packed_cpu,
    &packed<&attention_reference>, &packed_with_grad);
const Operator<&qk_norm_rotary_reference, &qk_norm_rotary_meta> qk_norm_rotary_op(
    "kinora::qk_norm_rotary(Tensor x, Tensor? weight, Tensor? bias, float eps, Tensor? cos, Tensor? sin) -> Tensor",
    &qk_norm_rotary_cpu, &qk_norm_rotary_reference, &qk_norm_rotary_with_grad);

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Without mask. No lengths: keys and values by sample.
struct BlockAttentionFunction : torch::autograd::Function<BlockAttentionFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const std::vector<int64_t>& key_lengths, double scale) {
    context->save_for_backward({q, k, v});
    context->saved_data["key_lengths"] = key_lengths;
    context->saved_data["scale"] = scale;
    at::AutoDispatchBelowADInplaceOrView below;
    return key_lengths.empty() ? attention_op(q, k, v, std::nullopt, scale) : packed_op(q, k, v, key_lengths, scale);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    cpu::refuse_second_backward("attention");
    const variable_list saved = context->get_saved_variables();
    const std::vector<int64_t> lengths = context->saved_data["key_lengths"].toIntVector();
    const auto got =
        cpu::block_attention_backward(grads[0], saved[0], saved[1], saved[2],
                                      lengths.empty() ? at::OptionalIntArrayRef() : at::OptionalIntArrayRef(lengths),
                                      context->saved_data["scale"].toDouble());
    return {got.q, got.k, got.v, Tensor(), Tensor()};
  }
};

double scale_of(const Tensor& q, std::optional<double> scale) {
  return scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(3))));
}

Tensor attention_with_grad(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& mask,
                           std::optional<double> scale) {
  if (mask || q.numel() == 0 || !cpu::has_block_attention(q, k, v, std::nullopt)) {
    return attention_reference(q, k, v, mask, scale);
  }
  return BlockAttentionFunction::apply(q, k, v, std::vector<int64_t>(), scale_of(q, scale));
}

Tensor packed_with_grad(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef key_lengths,
                        std::optional<double> scale) {
  if (q.numel() == 0 || !cpu::has_block_attention(q, k, v, key_lengths)) {
    return packed<&attention_reference>(q, k, v, key_lengths, scale);
  }
  return BlockAttentionFunction::apply(q, k, v, key_lengths.vec(), scale_of(q, scale));
}

/// Without bias.
struct NormRotary : torch::autograd::Function<NormRotary> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const MaybeTensor& weight, double eps,
                        const MaybeTensor& cos, const MaybeTensor& sin) {
    const auto or_none = [](const MaybeTensor& t) { return t.value_or(Tensor()); };
    context->save_for_backward({x, or_none(weight), or_none(cos), or_none(sin)});
    context->saved_data["eps"] = eps;
    at::AutoDispatchBelowADInplaceOrView below;
    return qk_norm_rotary_op(x, weight, std::nullopt, eps, cos, sin);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    cpu::refuse_second_backward("qk_norm_rotary");
    const variable_list saved = context->get_saved_variables();
    const auto maybe = [&](size_t i) { return saved[i].defined() ? MaybeTensor(saved[i]) : std::nullopt; };
    const double eps = context->saved_data["eps"].toDouble();
    const Tensor &x = saved[0], &grad = grads[0];
    cpu::NormRotaryGrads got;
    if (heads_inside(x)) {
      got = cpu::norm_rotary_backward(grad.transpose(-3, -2), x.transpose(-3, -2), maybe(1), eps,
                                      across_heads(maybe(2)), across_heads(maybe(3)));
      got.x = got.x.transpose(-3, -2);
    } else {
      got = cpu::norm_rotary_backward(grad, x, maybe(1), eps, maybe(2), maybe(3));
    }
    return {got.x, got.weight, Tensor(), Tensor(), Tensor()};
  }
};

Tensor qk_norm_rotary_with_grad(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                                const MaybeTensor& cos, const MaybeTensor& sin) {
  if (!cpu::has_norm_rotary_backward(x, weight, bias, cos, sin)) {
    return qk_norm_rotary_reference(x, weight, bias, eps, cos, sin);
  }
  return NormRotary::apply(x, weight, eps, cos, sin);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
                 std::optional<double> scale) {
  const bool fits = q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && k.sizes().slice(0, 2) == q.sizes().slice(0, 2) &&
                    v.sizes().slice(0, 3) == k.sizes().slice(0, 3) && k.size(3) == q.size(3);
  if (!fits) {
    throw UsageError(concat("attention: q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes()),
                     "give q [B, A, N, D], k [B, A, M, D] and v [B, A, M, width]");
  }
  if (mask && !at::is_expandable_to(mask->sizes(), {q.size(0), q.size(1), q.size(2), k.size(2)})) {
    throw UsageError(concat("attention: mask ", mask->sizes(), " for q ", q.sizes(), " and k ", k.sizes()),
                     "give one that broadcasts to [B, A, N, M]");
  }
  return attention_op(q, k, v, mask, scale);
}

Tensor attention_packed(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef key_lengths,
                        std::optional<double> scale) {
  const bool fits = q.dim() == 4 && k.dim() == 3 && v.dim() == 3 && k.size(0) == q.size(1) && k.size(2) == q.size(3) &&
                    v.sizes().slice(0, 2) == k.sizes().slice(0, 2);
  if (!fits) {
    throw UsageError(concat("attention_packed: q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes()),
                     "give q [B, A, N, D], k [A, keys, D] and v [A, keys, width]");
  }
  int64_t total = 0;
  for (const int64_t length : key_lengths) {
    if (length < 1) throw UsageError("attention_packed: every sample needs at least one key");
    total += length;
  }
  if (static_cast<int64_t>(key_lengths.size()) != q.size(0) || total != k.size(1)) {
    throw UsageError(concat("attention_packed: ", key_lengths.size(), " lengths of ", total,
                            " keys in all for a batch of ", q.size(0), " and ", k.size(1), " keys"));
  }
  return packed_op(q, k, v, key_lengths, scale);
}

Tensor qk_norm_rotary(const Tensor& x, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                      double eps, const std::optional<Tensor>& cos, const std::optional<Tensor>& sin) {
  KINORA_ASSERT(cos.has_value() == sin.has_value() && (weight || !bias));
  if (!weight && !cos) return x;
  return qk_norm_rotary_op(x, weight, bias, eps, cos, sin);
}

}  // namespace kinora::ops
