#include "kinora/graph/rules.h"

#include <algorithm>
#include <unordered_map>

#include "kinora/base/error.h"
#include "kinora/graph/rule_parts.h"

namespace kinora::graph {
namespace {

// clang-format off
constexpr Rule kRules[] = {
    {"aten::add", Work::move, &elementwise},
    {"aten::sub", Work::move, &elementwise},
    {"aten::mul", Work::move, &elementwise},
    {"aten::div", Work::move, &elementwise},
    {"aten::neg", Work::move, &elementwise},
    {"aten::abs", Work::move, &elementwise},
    {"aten::pow", Work::move, &elementwise},
    {"aten::exp", Work::move, &elementwise},
    {"aten::log", Work::move, &elementwise},
    {"aten::log1p", Work::move, &elementwise},
    {"aten::sqrt", Work::move, &elementwise},
    {"aten::rsqrt", Work::move, &elementwise},
    {"aten::reciprocal", Work::move, &elementwise},
    {"aten::sin", Work::move, &elementwise},
    {"aten::cos", Work::move, &elementwise},
    {"aten::tanh", Work::move, &elementwise},
    {"aten::sigmoid", Work::move, &elementwise},
    {"aten::silu", Work::move, &elementwise},
    {"aten::gelu", Work::move, &elementwise},
    {"aten::relu", Work::move, &elementwise},
    {"aten::hardswish", Work::move, &elementwise},
    {"aten::mish", Work::move, &elementwise},
    {"aten::elu", Work::move, &elementwise},
    {"aten::leaky_relu", Work::move, &elementwise},
    {"aten::erf", Work::move, &elementwise},
    {"aten::floor", Work::move, &elementwise},
    {"aten::ceil", Work::move, &elementwise},
    {"aten::round", Work::move, &elementwise},
    {"aten::square", Work::move, &elementwise},
    {"aten::clamp", Work::move, &elementwise},
    {"aten::clamp_min", Work::move, &elementwise},
    {"aten::clamp_max", Work::move, &elementwise},
    {"aten::minimum", Work::move, &elementwise},
    {"aten::maximum", Work::move, &elementwise},
    {"aten::ge", Work::move, &elementwise},
    {"aten::gt", Work::move, &elementwise},
    {"aten::lt", Work::move, &elementwise},
    {"aten::le", Work::move, &elementwise},
    {"aten::eq", Work::move, &elementwise},
    {"aten::ne", Work::move, &elementwise},
    {"aten::logical_and", Work::move, &elementwise},
    {"aten::logical_or", Work::move, &elementwise},
    {"aten::logical_not", Work::move, &elementwise},
    {"aten::bitwise_and", Work::move, &elementwise},
    {"aten::bitwise_or", Work::move, &elementwise},
    {"aten::bitwise_not", Work::move, &elementwise},
    {"aten::isnan", Work::move, &elementwise},
    {"aten::where", Work::move, &elementwise},
    {"aten::masked_fill", Work::move, &elementwise},
    {"aten::lerp", Work::move, &elementwise},
    {"aten::addcmul", Work::move, &elementwise},
    {"aten::addcdiv", Work::move, &elementwise},
    {"aten::remainder", Work::move, &elementwise},
    {"aten::floor_divide", Work::move, &elementwise},
    {"aten::rsub", Work::move, &elementwise},
    {"aten::nan_to_num", Work::move, &elementwise},
    {"aten::full_like", Work::move, &elementwise},
    {"aten::zeros_like", Work::move, &elementwise},
    {"aten::ones_like", Work::move, &elementwise},
    {"aten::empty_like", Work::move, &elementwise},
    {"aten::to", Work::move, &elementwise},
    {"aten::_to_copy", Work::move, &elementwise},
    {"aten::type_as", Work::move, &elementwise},
    {"aten::clone", Work::move, &elementwise},
    {"aten::contiguous", Work::move, &elementwise},
    {"aten::alias", Work::view, &elementwise},
    {"aten::detach", Work::view, &elementwise},
    {"aten::fill", Work::move, &elementwise},
    {"aten::add_", Work::move, &elementwise},
    {"aten::sub_", Work::move, &elementwise},
    {"aten::mul_", Work::move, &elementwise},
    {"aten::div_", Work::move, &elementwise},
    {"aten::neg_", Work::move, &elementwise},
    {"aten::exp_", Work::move, &elementwise},
    {"aten::sqrt_", Work::move, &elementwise},
    {"aten::clamp_", Work::move, &elementwise},
    {"aten::clamp_min_", Work::move, &elementwise},
    {"aten::masked_fill_", Work::move, &elementwise},
    {"aten::fill_", Work::move, &elementwise},
    {"aten::zero_", Work::move, &elementwise},
    {"aten::copy_", Work::move, &elementwise},
    {"aten::relu_", Work::move, &elementwise},
    {"aten::silu_", Work::move, &elementwise},
    {"aten::gelu_", Work::move, &elementwise},
    {"aten::sigmoid_", Work::move, &elementwise},
    {"aten::tanh_", Work::move, &elementwise},
    {"kinora::activate", Work::move, &elementwise},
    {"kinora::add_residual", Work::move, &elementwise},
    {"aten::linear", Work::product, &linear},
    {"kinora::linear", Work::product, &linear},
    {"kinora::linear_by_id", Work::product, &linear_by_id},
    {"kinora::byte_linear", Work::product, &linear},
    {"aten::matmul", Work::product, &matmul},
    {"aten::bmm", Work::product, &matmul},
    {"aten::mm", Work::product, &matmul},
    {"aten::_int_mm", Work::product, &matmul},
    {"aten::addmm", Work::product, &addmm},
    {"aten::baddbmm", Work::product, &addmm},
    {"aten::einsum", Work::product, &einsum},
    {"aten::layer_norm", Work::move, &layer_norm},
    {"kinora::layer_norm", Work::move, &modulated_norm},
    {"kinora::rms_norm", Work::move, &last_dim_norm},
    {"kinora::qk_norm_rotary", Work::move, &norm_rotary},
    {"aten::softmax.int", Work::move, &along_dim},
    {"aten::_softmax", Work::move, &along_dim},
    {"aten::log_softmax.int", Work::move, &along_dim},
    {"aten::cumsum", Work::move, &along_dim},
    {"aten::sum.dim_IntList", Work::move, &reduction},
    {"aten::mean.dim", Work::move, &reduction},
    {"aten::amax", Work::move, &reduction},
    {"aten::amin", Work::move, &reduction},
    {"aten::var.correction", Work::move, &reduction},
    {"aten::var.dim", Work::move, &reduction},
    {"aten::std.correction", Work::move, &reduction},
    {"aten::std.dim", Work::move, &reduction},
    {"aten::var_mean.correction", Work::move, &reduction},
    {"aten::var_mean.dim", Work::move, &reduction},
    {"aten::logsumexp", Work::move, &reduction},
    {"aten::argmax", Work::move, &reduction},
    {"aten::argmin", Work::move, &reduction},
    {"aten::scaled_dot_product_attention", Work::attention, &attention},
    {"kinora::attention", Work::attention, &attention},
    {"kinora::attention_packed", Work::attention, &attention_packed},
    {"aten::embedding", Work::move, &embedding},
    {"aten::index_select", Work::move, &index_select},
    {"aten::arange", Work::move, &factory},
    {"aten::zeros", Work::move, &factory},
    {"aten::ones", Work::move, &factory},
    {"aten::full", Work::move, &factory},
    {"aten::linspace", Work::move, &factory},
    {"aten::eye", Work::move, &factory},
    {"aten::new_zeros", Work::move, &factory},
    {"aten::new_ones", Work::move, &factory},
    {"aten::new_full", Work::move, &factory},
    {"aten::view", Work::view, &view},
    {"aten::reshape", Work::view, &view},
    {"aten::_unsafe_view", Work::view, &view},
    {"aten::flatten.using_ints", Work::view, &flatten},
    {"aten::unflatten.int", Work::view, &unflatten},
    {"aten::permute", Work::view, &permute},
    {"aten::transpose.int", Work::view, &transpose},
    {"aten::t", Work::view, &transpose},
    {"aten::unsqueeze", Work::view, &unsqueeze},
    {"aten::squeeze.dim", Work::view, &squeeze},
    {"aten::squeeze.dims", Work::view, &squeeze},
    {"aten::select.int", Work::view, &select},
    {"aten::unbind.int", Work::view, &select},
    {"aten::slice.Tensor", Work::view, &slice},
    {"aten::narrow", Work::view, &slice},
    {"aten::split.Tensor", Work::view, &split},
    {"aten::split_with_sizes", Work::view, &split},
    {"aten::chunk", Work::view, &split},
    {"aten::cat", Work::move, &joined},
    {"aten::stack", Work::move, &joined},
    {"aten::expand", Work::view, &expand},
    {"aten::expand_as", Work::view, &expand},
    {"aten::repeat", Work::move, &expand},
    {"aten::constant_pad_nd", Work::move, &pad},
    {"aten::pad", Work::move, &pad},
    {"kinora::conv", Work::convolution, &conv},
    {"aten::conv1d", Work::convolution, &conv},
    {"aten::conv2d", Work::convolution, &conv},
    {"aten::conv3d", Work::convolution, &conv},
    {"aten::group_norm", Work::move, &group_norm},
    {"kinora::group_norm", Work::move, &group_norm},
    {"aten::upsample_nearest1d", Work::move, &upsample},
    {"aten::upsample_nearest2d", Work::move, &upsample},
    {"aten::upsample_nearest3d", Work::move, &upsample},
    {"aten::_upsample_nearest_exact2d", Work::move, &upsample},
    {"aten::avg_pool2d", Work::move, &pool},
    {"aten::max_pool2d", Work::move, &pool},
};
// clang-format on

}  // namespace

std::span<const Rule> rules() { return kRules; }

const Rule* find_rule(const Node& node) {
  static const auto table = [] {
    std::unordered_map<std::string_view, const Rule*> out;
    for (const Rule& rule : kRules) out[rule.name] = &rule;
    return out;
  }();
  auto found = table.find(node.name());
  if (found == table.end() && !node.op.schema().overload_name().empty()) {
    found = table.find(concat(node.name(), ".", node.op.schema().overload_name()));
  }
  return found == table.end() ? nullptr : found->second;
}

std::optional<Cut> cut(const Graph& graph, const Node& node, const Part& out) {
  const Rule* const rule = node.rule;
  if (!rule || out.is_whole() || node.results.empty()) return std::nullopt;
  for (const int id : node.results) {
    const Tensor& y = graph.value(id).twin;
    if (out.dim >= y.dim() || out.end > y.size(out.dim) || out.begin >= out.end || out.begin < 0) return std::nullopt;
  }
  return rule->cut(graph, node, out);
}

bool depends_on_place(const Node& node) {
  static constexpr std::string_view kFunctions[] = {
      "aten::pow",     "aten::exp",  "aten::log",  "aten::log1p", "aten::sin", "aten::cos", "aten::tanh",
      "aten::sigmoid", "aten::silu", "aten::gelu", "aten::mish",  "aten::elu", "aten::erf", "kinora::activate"};
  std::string_view name = node.name();
  if (name.ends_with('_')) name.remove_suffix(1);
  return std::find(std::begin(kFunctions), std::end(kFunctions), name) != std::end(kFunctions);
}

double flops(const Graph& graph, const Node& node) {
  const Rule* const rule = node.rule;
  if (!rule) return 0;
  const Tensor& y = result(graph, node);
  const auto elements = static_cast<double>(y.numel());
  switch (rule->work) {
    case Work::product: {
      if (node.name() == "aten::einsum")
        return 2 * elements * static_cast<double>(tensor(graph, node, 1).numel()) /
               std::max(1.0, static_cast<double>(y.size(-1)));
      const size_t left = node.name() == "aten::addmm" || node.name() == "aten::baddbmm" ? 1 : 0;
      return 2 * elements * static_cast<double>(tensor(graph, node, left).size(-1));
    }
    case Work::attention: {
      const Tensor &q = tensor(graph, node, 0), &k = tensor(graph, node, 1);
      const double keys = static_cast<double>(k.size(-2)) / (k.dim() < q.dim() ? static_cast<double>(q.size(0)) : 1.0);
      return 4 * elements * keys;
    }
    case Work::convolution: {
      const Tensor& w = tensor(graph, node, 1);
      return 2 * elements * static_cast<double>(w.numel() / std::max<int64_t>(1, w.size(0)));
    }
    case Work::view: return 0;
    case Work::move: return elements;
  }
  return 0;
}

}  // namespace kinora::graph
