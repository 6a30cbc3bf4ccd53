#include "kinora/graph/shape_rules.h"

#include <ATen/ExpandUtils.h>

#include <algorithm>
#include <unordered_map>

#include "kinora/base/error.h"

namespace kinora::graph {
namespace {

using Arguments = std::span<const c10::IValue>;
using Tensors = std::vector<Tensor>;
using Sizes = std::vector<int64_t>;

Sizes ints(const c10::IValue& v, size_t n) {
  if (v.isInt()) return Sizes(n, v.toInt());
  Sizes out = v.isNone() ? Sizes(n, 1) : v.toIntVector();
  if (out.size() == 1) out.resize(n, out[0]);
  return out;
}

/// Same sizes; strides as an elementwise kernel leaves them.
Tensors like(Arguments a) { return {at::empty_like(a[0].toTensor())}; }
Tensors bool_like(Arguments a) { return {at::empty_like(a[0].toTensor(), at::kBool)}; }
Tensors bool_pair(Arguments a) {
  const auto as_bool = [](const Tensor& t) {
    return at::empty_strided(t.sizes(), t.strides(), t.options().dtype(at::kBool));
  };
  return {at::bitwise_or(as_bool(a[0].toTensor()), as_bool(a[1].toTensor()))};
}
Tensors contiguous_like(Arguments a) { return {at::empty_like(a[0].toTensor(), at::MemoryFormat::Contiguous)}; }
Tensors in_format_like(Arguments a) {
  const Tensor& x = a[0].toTensor();
  return {at::empty_like(x, x.suggest_memory_format())};
}

/// An elementwise kernel of three operands: ATen's iterator decides the strides from all of them.
Tensors where(Arguments a) {
  const Tensor &self = a[1].toTensor(), &other = a[2].toTensor();
  const auto dtype = at::result_type(self, other);
  const auto as = [&](const Tensor& t) { return at::empty_strided(t.sizes(), t.strides(), t.options().dtype(dtype)); };
  if (dtype == at::kBool) return {at::bitwise_or(as(a[0].toTensor()), at::bitwise_or(as(self), as(other)))};
  return {at::addcmul(as(a[0].toTensor()), as(self), as(other))};
}
Tensors floor_divide(Arguments a) {
  return {a[1].isTensor() ? at::add(a[0].toTensor(), a[1].toTensor()) : at::add(a[0].toTensor(), a[1].toScalar())};
}

/// Along the dims that are given, or all.
Tensor reduced(const Tensor& x, const c10::IValue& dims, bool keepdim, std::optional<at::ScalarType> dtype = {}) {
  const Tensor in = dtype ? at::empty_strided(x.sizes(), x.strides(), x.options().dtype(*dtype)) : x;
  if (dims.isNone()) return at::sum(in, at::OptionalIntArrayRef(), keepdim);
  return at::sum(in, dims.toIntVector(), keepdim);
}
Tensors var_correction(Arguments a) { return {reduced(a[0].toTensor(), a[1], a[3].toBool())}; }
Tensors var_dim(Arguments a) { return {reduced(a[0].toTensor(), a[1], a[3].toBool())}; }
Tensors two_of(Tensors one) { return {one[0], at::empty_like(one[0])}; }
Tensors var_mean_correction(Arguments a) { return two_of(var_correction(a)); }
Tensors var_mean_dim(Arguments a) { return two_of(var_dim(a)); }
Tensors logsumexp(Arguments a) { return {reduced(a[0].toTensor(), a[1], a[2].toBool())}; }

/// Fused attention on the CPU keeps the queries' layout, a product of two matrices does not.
Tensors attention(Arguments a) {
  const Tensor &q = a[0].toTensor(), &k = a[1].toTensor(), &v = a[2].toTensor();
  Sizes sizes = q.sizes().vec();
  sizes.back() = v.size(-1);
  const bool is_plain = a[4].toDouble() == 0 && q.dim() == 4 && q.size(3) == v.size(3) && q.size(0) == k.size(0) &&
                        q.size(1) == k.size(1) && q.size(1) == v.size(1) && q.size(2) > 0 && k.size(2) > 0;
  const bool has_rows = q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1;
  const bool has_both = a[5].toBool() && a[3].isTensor();
  if (is_plain && has_rows && !has_both && at::isFloatingType(q.scalar_type())) {
    return {at::empty_like(q)};
  }
  return {at::empty(sizes, q.options())};
}

Tensors conv_of(Arguments a, const Sizes& spatial, int64_t channels) {
  const Tensor& x = a[0].toTensor();
  Sizes sizes = x.dim() == static_cast<int64_t>(spatial.size()) + 2 ? Sizes{x.size(0), channels} : Sizes{channels};
  sizes.insert(sizes.end(), spatial.begin(), spatial.end());
  return {at::empty(sizes, x.options(), x.dim() >= 4 ? x.suggest_memory_format() : at::MemoryFormat::Contiguous)};
}

/// x, weight [out, in / groups, k...], bias, stride, padding, dilation, groups.
Tensors conv(Arguments a) {
  const Tensor &x = a[0].toTensor(), &w = a[1].toTensor();
  const size_t n = static_cast<size_t>(w.dim()) - 2;
  const Sizes stride = ints(a[3], n), padding = ints(a[4], n), dilation = ints(a[5], n);
  Sizes out(n);
  for (size_t i = 0; i < n; ++i) {
    const auto d = static_cast<int64_t>(i);
    out[i] = (x.size(x.dim() - static_cast<int64_t>(n) + d) + 2 * padding[i] - dilation[i] * (w.size(2 + d) - 1) - 1) /
                 stride[i] +
             1;
  }
  return conv_of(a, out, w.size(0));
}
/// x, weight [in, out / groups, k...], bias, stride, padding, output_padding, groups, dilation.
Tensors conv_transpose(Arguments a) {
  const Tensor &x = a[0].toTensor(), &w = a[1].toTensor();
  const size_t n = static_cast<size_t>(w.dim()) - 2;
  const Sizes stride = ints(a[3], n), padding = ints(a[4], n), extra = ints(a[5], n), dilation = ints(a[7], n);
  Sizes out(n);
  for (size_t i = 0; i < n; ++i) {
    const auto d = static_cast<int64_t>(i);
    out[i] = (x.size(x.dim() - static_cast<int64_t>(n) + d) - 1) * stride[i] - 2 * padding[i] +
             dilation[i] * (w.size(2 + d) - 1) + extra[i] + 1;
  }
  return conv_of(a, out, w.size(1) * a[6].toInt());
}

Tensors embedding(Arguments a) {
  Sizes sizes = a[1].toTensor().sizes().vec();
  sizes.push_back(a[0].toTensor().size(1));
  return {at::empty(sizes, a[0].toTensor().options())};
}
Tensors index_select(Arguments a) {
  Sizes sizes = a[0].toTensor().sizes().vec();
  const auto dim = static_cast<size_t>(at::maybe_wrap_dim(a[1].toInt(), static_cast<int64_t>(sizes.size())));
  sizes[dim] = a[2].toTensor().numel();
  return {at::empty(sizes, a[0].toTensor().options())};
}
/// padding: left, right of the last dim, then of the one before it.
Tensors reflection_pad(Arguments a) {
  Sizes sizes = a[0].toTensor().sizes().vec();
  const Sizes pad = a[1].toIntVector();
  for (size_t i = 0; 2 * i < pad.size(); ++i) sizes[sizes.size() - 1 - i] += pad[2 * i] + pad[2 * i + 1];
  return {at::empty(sizes, a[0].toTensor().options())};
}
Tensors adaptive_pool(Arguments a) {
  Sizes sizes = a[0].toTensor().sizes().vec();
  const Sizes out = a[1].toIntVector();
  std::copy(out.begin(), out.end(), sizes.end() - static_cast<std::ptrdiff_t>(out.size()));
  return {at::empty(sizes, a[0].toTensor().options())};
}
/// x [B, C, H, W], kernel, dilation, padding, stride -> [B, C kernel, places].
Tensors im2col(Arguments a) {
  const Tensor& x = a[0].toTensor();
  const Sizes k = ints(a[1], 2), dilation = ints(a[2], 2), padding = ints(a[3], 2), stride = ints(a[4], 2);
  int64_t places = 1;
  for (size_t i = 0; i < 2; ++i) {
    places *= (x.size(-2 + static_cast<int64_t>(i)) + 2 * padding[i] - dilation[i] * (k[i] - 1) - 1) / stride[i] + 1;
  }
  Sizes sizes{x.size(-3) * k[0] * k[1], places};
  if (x.dim() == 4) sizes.insert(sizes.begin(), x.size(0));
  return {at::empty(sizes, x.options())};
}
Tensors cdist(Arguments a) {
  const Tensor &x = a[0].toTensor(), &y = a[1].toTensor();
  Sizes sizes = at::infer_size(x.sizes().slice(0, static_cast<size_t>(x.dim()) - 2),
                               y.sizes().slice(0, static_cast<size_t>(y.dim()) - 2));
  sizes.insert(sizes.end(), {x.size(-2), y.size(-2)});
  return {at::empty(sizes, x.options())};
}
Tensors bucketize(Arguments a) {
  return {at::empty(a[0].toTensor().sizes(), a[0].toTensor().options().dtype(a[2].toBool() ? at::kInt : at::kLong))};
}
Tensors searchsorted(Arguments a) {
  return {at::empty(a[1].toTensor().sizes(), a[1].toTensor().options().dtype(a[2].toBool() ? at::kInt : at::kLong))};
}
Tensors int_mm(Arguments a) {
  return {at::empty({a[0].toTensor().size(0), a[1].toTensor().size(1)}, a[0].toTensor().options().dtype(at::kInt))};
}

constexpr ShapeRule kRules[] = {
    {"aten::layer_norm", &contiguous_like},
    {"aten::group_norm", &in_format_like},
    {"aten::batch_norm", &in_format_like},
    {"aten::scaled_dot_product_attention", &attention},
    {"aten::conv1d", &conv},
    {"aten::conv2d", &conv},
    {"aten::conv3d", &conv},
    {"aten::conv_transpose1d", &conv_transpose},
    {"aten::conv_transpose2d.input", &conv_transpose},
    {"aten::conv_transpose3d.input", &conv_transpose},
    {"aten::relu", &like},
    {"aten::hardswish", &like},
    {"aten::abs", &like},
    {"aten::nan_to_num", &like},
    {"aten::isnan", &bool_like},
    {"aten::logical_not", &bool_like},
    {"aten::logical_and", &bool_pair},
    {"aten::logical_or", &bool_pair},
    {"aten::flip", &like},
    {"aten::roll", &contiguous_like},
    {"aten::where.self", &where},
    {"aten::floor_divide", &floor_divide},
    {"aten::var.correction", &var_correction},
    {"aten::var.dim", &var_dim},
    {"aten::std.correction", &var_correction},
    {"aten::std.dim", &var_dim},
    {"aten::var_mean.correction", &var_mean_correction},
    {"aten::var_mean.dim", &var_mean_dim},
    {"aten::logsumexp", &logsumexp},
    {"aten::embedding", &embedding},
    {"aten::index_select", &index_select},
    {"aten::reflection_pad1d", &reflection_pad},
    {"aten::reflection_pad2d", &reflection_pad},
    {"aten::reflection_pad3d", &reflection_pad},
    {"aten::adaptive_avg_pool2d", &adaptive_pool},
    {"aten::im2col", &im2col},
    {"aten::cdist", &cdist},
    {"aten::bucketize.Tensor", &bucketize},
    {"aten::searchsorted.Tensor", &searchsorted},
    {"aten::_int_mm", &int_mm},
};

}  // namespace

std::span<const ShapeRule> shape_rules() { return kRules; }

const ShapeRule* find_shape_rule(const c10::FunctionSchema& schema) {
  static const auto table = [] {
    std::unordered_map<std::string_view, const ShapeRule*> out;
    for (const ShapeRule& rule : kRules) out[rule.name] = &rule;
    return out;
  }();
  auto found = table.find(schema.name());
  if (found == table.end() && !schema.overload_name().empty()) {
    found = table.find(concat(schema.name(), ".", schema.overload_name()));
  }
  return found == table.end() ? nullptr : found->second;
}

void apply(const ShapeRule& rule, CallStack& stack, size_t num_arguments) {
  const std::vector<c10::IValue> arguments = torch::jit::pop(stack, num_arguments);
  for (Tensor& t : rule.results(arguments)) stack.emplace_back(std::move(t));
}

}  // namespace kinora::graph
