#include "kinora/ops/linear.h"

#include <torch/csrc/autograd/custom_function.h>

#include "kinora/base/error.h"
#include "kinora/ops/fused_backward.h"
#include "kinora/ops/fused_cpu.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

Tensor linear_reference(const Tensor& x, const Tensor& weight, const MaybeTensor& bias) {
  return at::linear(x, weight, bias);
}

Tensor linear_meta(const Tensor& x, const Tensor& weight, const MaybeTensor&) {
  auto shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return x.new_empty(shape);
}

Tensor activate_reference(const Tensor& x, int64_t activation) {
  switch (static_cast<Activation>(activation)) {
    case Activation::none: return x.clone();  // an operator's result never aliases its input
    case Activation::silu: return at::silu(x);
    case Activation::gelu: return at::gelu(x);
    case Activation::gelu_tanh: return at::gelu(x, "tanh");
    case Activation::relu: return at::relu(x);
  }
  throw UsageError(concat("activate: ", activation, " is no activation"));
}

Tensor activate_cpu(const Tensor& x, int64_t activation) {
  if (static_cast<Activation>(activation) == Activation::gelu_tanh) {
    if (const MaybeTensor fused = cpu::gelu_tanh(x)) return *fused;
  }
  return activate_reference(x, activation);
}

Tensor activate_meta(const Tensor& x, int64_t) { return at::empty_like(x); }

Tensor activate_with_grad(const Tensor& x, int64_t activation);

const Operator<&linear_reference, &linear_meta> linear_op(
    "kinora::linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor");
const Operator<&activate_reference, &activate_meta> activate_op("kinora::activate(Tensor x, int activation) -> Tensor",
                                                                &activate_cpu, &activate_reference,
                                                                &activate_with_grad);

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GeluTanh : torch::autograd::Function<GeluTanh> {
  static Tensor forward(AutogradContext* context, const Tensor& x) {
    context->save_for_backward({x});
    at::AutoDispatchBelowADInplaceOrView below;
    return activate_op(x, static_cast<int64_t>(Activation::gelu_tanh));
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    cpu::refuse_second_backward("activate");
    return {cpu::gelu_tanh_backward(grads[0], context->get_saved_variables()[0])};
  }
};

Tensor activate_with_grad(const Tensor& x, int64_t activation) {
  const bool is_gelu = static_cast<Activation>(activation) == Activation::gelu_tanh;
  return is_gelu && cpu::has_gelu_tanh_backward(x) ? GeluTanh::apply(x) : activate_reference(x, activation);
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  return linear_op(x, weight, bias);
}

Tensor activate(const Tensor& x, Activation activation) {
  return activation == Activation::none ? x : activate_op(x, static_cast<int64_t>(activation));
}

}  // namespace kinora::ops
