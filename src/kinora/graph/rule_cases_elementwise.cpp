#include "kinora/graph/rule_cases.h"

#include "kinora/ops/linear.h"
#include "kinora/ops/residual.h"

namespace kinora::graph {

std::vector<RuleCase> elementwise_cases() {
  RuleCases cases;
  const auto add = [&](const char* dims, const RuleCases::Tensors& in, auto f) { cases.add(dims, in, f); };
  const Tensor x = draw({3, 5, 7}), y = draw({5, 1}), b = x > 0.5;
  add("012", {x, y}, [](const auto& in) { return at::add(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::sub(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::mul(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::div(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::pow(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::minimum(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::maximum(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::ge(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::gt(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::lt(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::le(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::eq(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::ne(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::remainder(in[0], in[1]); });
  add("012", {x, y}, [](const auto& in) { return at::floor_divide(in[0], in[1]); });
  add("012", {x}, [](const auto& in) { return at::neg(in[0]); });
  add("012", {x}, [](const auto& in) { return at::abs(in[0]); });
  add("012", {x}, [](const auto& in) { return at::exp(in[0]); });
  add("012", {x}, [](const auto& in) { return at::log(in[0]); });
  add("012", {x}, [](const auto& in) { return at::log1p(in[0]); });
  add("012", {x}, [](const auto& in) { return at::sqrt(in[0]); });
  add("012", {x}, [](const auto& in) { return at::rsqrt(in[0]); });
  add("012", {x}, [](const auto& in) { return at::reciprocal(in[0]); });
  add("012", {x}, [](const auto& in) { return at::sin(in[0]); });
  add("012", {x}, [](const auto& in) { return at::cos(in[0]); });
  add("012", {x}, [](const auto& in) { return at::tanh(in[0]); });
  add("012", {x}, [](const auto& in) { return at::sigmoid(in[0]); });
  add("012", {x}, [](const auto& in) { return at::silu(in[0]); });
  add("012", {x}, [](const auto& in) { return at::gelu(in[0]); });
  add("012", {x}, [](const auto& in) { return at::relu(in[0]); });
  add("012", {x}, [](const auto& in) { return at::hardswish(in[0]); });
  add("012", {x}, [](const auto& in) { return at::mish(in[0]); });
  add("012", {x}, [](const auto& in) { return at::elu(in[0]); });
  add("012", {x}, [](const auto& in) { return at::leaky_relu(in[0]); });
  add("012", {x}, [](const auto& in) { return at::erf(in[0]); });
  add("012", {x}, [](const auto& in) { return at::floor(in[0]); });
  add("012", {x}, [](const auto& in) { return at::ceil(in[0]); });
  add("012", {x}, [](const auto& in) { return at::round(in[0]); });
  add("012", {x}, [](const auto& in) { return at::square(in[0]); });
  add("012", {x}, [](const auto& in) { return at::isnan(in[0]); });
  add("012", {x}, [](const auto& in) { return at::zeros_like(in[0]); });
  add("012", {x}, [](const auto& in) { return at::ones_like(in[0]); });
  add("012", {x}, [](const auto& in) { return at::clone(in[0]); });
  add("012", {x}, [](const auto& in) { return at::alias(in[0]); });
  add("012", {x}, [](const auto& in) { return at::detach(in[0]); });
  add("012", {x}, [](const auto& in) { return at::nan_to_num(in[0]); });
  add("012", {b, b.narrow(0, 0, 1)}, [](const auto& in) { return at::logical_and(in[0], in[1]); });
  add("012", {b, b.narrow(0, 0, 1)}, [](const auto& in) { return at::logical_or(in[0], in[1]); });
  add("012", {b, b.narrow(0, 0, 1)}, [](const auto& in) { return at::bitwise_and(in[0], in[1]); });
  add("012", {b, b.narrow(0, 0, 1)}, [](const auto& in) { return at::bitwise_or(in[0], in[1]); });
  add("012", {b}, [](const auto& in) { return at::logical_not(in[0]); });
  add("012", {b}, [](const auto& in) { return at::bitwise_not(in[0]); });
  add("012", {x}, [](const auto& in) { return at::clamp(in[0], 0.2, 0.6); });
  add("012", {x}, [](const auto& in) { return at::clamp_min(in[0], 0.2); });
  add("012", {x}, [](const auto& in) { return at::clamp_max(in[0], 0.2); });
  add("012", {b, x, y}, [](const auto& in) { return at::where(in[0], in[1], in[2]); });
  add("012", {x, b}, [](const auto& in) { return at::masked_fill(in[0], in[1], 2); });
  add("012", {x, y, y}, [](const auto& in) { return at::lerp(in[0], in[1], in[2]); });
  add("012", {x, y, y}, [](const auto& in) { return at::addcmul(in[0], in[1], in[2]); });
  add("012", {x, y, y}, [](const auto& in) { return at::addcdiv(in[0], in[1], in[2]); });
  add("012", {x}, [](const auto& in) { return at::rsub(in[0], 2); });
  add("012", {x}, [](const auto& in) { return at::full_like(in[0], 2); });
  add("012", {x}, [](const auto& in) { return at::empty_like(in[0]).zero_(); });
  add("012", {x}, [](const auto& in) { return at::empty_like(in[0]).fill_(3); });
  add("012", {x, y}, [](const auto& in) { return at::empty_like(in[0]).copy_(in[1]); });
  add("012", {x}, [](const auto& in) { return in[0].to(at::kFloat); });
  add("012", {x}, [](const auto& in) { return at::_to_copy(in[0], at::TensorOptions(at::kFloat)); });
  add("012", {x, b}, [](const auto& in) { return in[0].type_as(in[1]); });
  add("012", {x.transpose(0, 1)}, [](const auto& in) { return in[0].contiguous(); });
  add("012", {x}, [](const auto& in) { return at::fill(in[0], 2); });
  add("012", {x, y}, [](const auto& in) { return in[0].clone().add_(in[1]); });
  add("012", {x, y}, [](const auto& in) { return in[0].clone().sub_(in[1]); });
  add("012", {x, y}, [](const auto& in) { return in[0].clone().mul_(in[1]); });
  add("012", {x, y}, [](const auto& in) { return in[0].clone().div_(in[1]); });
  add("012", {x}, [](const auto& in) { return in[0].clone().neg_(); });
  add("012", {x}, [](const auto& in) { return in[0].clone().exp_(); });
  add("012", {x}, [](const auto& in) { return in[0].clone().sqrt_(); });
  add("012", {x}, [](const auto& in) { return in[0].clone().relu_(); });
  add("012", {x}, [](const auto& in) { return in[0].clone().sigmoid_(); });
  add("012", {x}, [](const auto& in) { return in[0].clone().tanh_(); });
  add("012", {x}, [](const auto& in) {
    Tensor t = in[0].clone();
    return at::silu_(t);
  });
  add("012", {x}, [](const auto& in) {
    Tensor t = in[0].clone();
    return at::gelu_(t);
  });
  add("012", {x}, [](const auto& in) { return in[0].clone().clamp_(0.2, 0.4); });
  add("012", {x}, [](const auto& in) { return in[0].clone().clamp_min_(0.4); });
  add("012", {x, b}, [](const auto& in) { return in[0].clone().masked_fill_(in[1], 2); });
  add("012", {x}, [](const auto& in) { return ops::activate(in[0], ops::Activation::gelu_tanh); });
  add("012", {x, x, y}, [](const auto& in) { return ops::add_residual(in[0], in[1], in[2]); });
  add("", {x}, [](const auto& in) { return at::arange(5, in[0].options()); });
  add("", {x}, [](const auto& in) { return at::zeros({4}, in[0].options()); });
  add("", {x}, [](const auto& in) { return at::ones({4}, in[0].options()); });
  add("", {x}, [](const auto& in) { return at::full({4}, 2, in[0].options()); });
  add("", {x}, [](const auto& in) { return at::linspace(0, 1, 5, in[0].options()); });
  add("", {x}, [](const auto& in) { return at::eye(4, in[0].options()); });
  add("", {x}, [](const auto& in) { return in[0].new_zeros({4}); });
  add("", {x}, [](const auto& in) { return in[0].new_ones({4}); });
  add("", {x}, [](const auto& in) { return in[0].new_full({4}, 2); });
  return std::move(cases.all);
}

}  // namespace kinora::graph
