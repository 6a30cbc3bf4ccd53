#include "kinora/ops/residual.h"

#include <torch/csrc/autograd/custom_function.h>

#include "kinora/base/error.h"
#include "kinora/ops/fused_backward.h"
#include "kinora/ops/fused_cpu.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

Tensor add_residual_reference(const Tensor& x, const Tensor& y, const MaybeTensor& gate) {
  // Not addcmul: the product rounds on its own, so that a policy which keeps it leaves the same bits in x.
  return gate ? x + y * *gate : x + y;
}

Tensor add_residual_cpu(const Tensor& x, const Tensor& y, const MaybeTensor& gate) {
  const MaybeTensor fused = cpu::add_residual(x, y, gate);
  return fused ? *fused : add_residual_reference(x, y, gate);
}

Tensor add_residual_meta(const Tensor& x, const Tensor&, const MaybeTensor&) { return at::empty_like(x); }

Tensor add_residual_with_grad(const Tensor& x, const Tensor& y, const MaybeTensor& gate);

const Operator<&add_residual_reference, &add_residual_meta> add_residual_op(
    "kinora::add_residual(Tensor x, Tensor y, Tensor? gate) -> Tensor", &add_residual_cpu, &add_residual_reference,
    &add_residual_with_grad);

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GatedResidual : torch::autograd::Function<GatedResidual> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& y, const Tensor& gate) {
    context->save_for_backward({y, gate});
    at::AutoDispatchBelowADInplaceOrView below;
    return add_residual_op(x, y, gate);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    cpu::refuse_second_backward("add_residual");
    const variable_list saved = context->get_saved_variables();
    const auto got = cpu::residual_backward(grads[0], saved[0], saved[1], saved[1].requires_grad());
    return {grads[0], got.y, got.gate};
  }
};

/// Without a gate there is nothing to gain: the gradient goes to both as it is.
Tensor add_residual_with_grad(const Tensor& x, const Tensor& y, const MaybeTensor& gate) {
  if (!cpu::has_residual_backward(x, y, gate)) return add_residual_reference(x, y, gate);
  return GatedResidual::apply(x, y, *gate);
}

}  // namespace

Tensor add_residual(const Tensor& x, const Tensor& y, const std::optional<Tensor>& gate) {
  if (x.sizes() != y.sizes()) {
    throw UsageError(concat("add_residual: x is ", x.sizes(), ", what is added is ", y.sizes()));
  }
  return add_residual_op(x, y, gate);
}

}  // namespace kinora::ops
