#include "kinora/ops/norm.h"

#include <torch/csrc/autograd/custom_function.h>

#include "kinora/ops/fused_backward.h"
#include "kinora/ops/fused_cpu.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

Tensor layer_norm_reference(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                            const MaybeTensor& scale, const MaybeTensor& shift, double eps) {
  Tensor y = at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
  if (scale) y = y * (1 + *scale);
  if (shift) y = y + *shift;
  return y;
}

Tensor layer_norm_cpu(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, const MaybeTensor& scale,
                      const MaybeTensor& shift, double eps) {
  const MaybeTensor fused = cpu::layer_norm(x, weight, bias, scale, shift, eps);
  return fused ? *fused : layer_norm_reference(x, weight, bias, scale, shift, eps);
}

Tensor layer_norm_with_grad(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                            const MaybeTensor& scale, const MaybeTensor& shift, double eps);

Tensor layer_norm_meta(const Tensor& x, const MaybeTensor&, const MaybeTensor&, const MaybeTensor&, const MaybeTensor&,
                       double) {
  return at::empty_like(x, at::MemoryFormat::Contiguous);
}

Tensor rms_norm_reference(const Tensor& x, const MaybeTensor& weight, double eps) {
  const Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  Tensor y = (wide * at::rsqrt(wide.square().mean(-1, true) + eps)).to(x.scalar_type());
  return weight ? y * *weight : y;
}

Tensor rms_norm_meta(const Tensor& x, const MaybeTensor&, double) { return at::empty_like(x); }

Tensor group_norm_reference(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                            int64_t activation) {
  const Tensor y = activate(at::group_norm(x, groups, weight, bias, eps), static_cast<Activation>(activation));
  return y.contiguous(x.suggest_memory_format());  // already so on the CPU; CUDA's kernel forgets channels-last
}

Tensor group_norm_meta(const Tensor& x, int64_t, const Tensor&, const Tensor&, double, int64_t) {
  return at::empty_like(x, x.suggest_memory_format());
}

const Operator<&layer_norm_reference, &layer_norm_meta> layer_norm_op(
    "kinora::layer_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? scale, Tensor? shift, float eps) -> Tensor",
    &layer_norm_cpu, &layer_norm_reference, &layer_norm_with_grad);
const Operator<&rms_norm_reference, &rms_norm_meta> rms_norm_op(
    "kinora::rms_norm(Tensor x, Tensor? weight, float eps) -> Tensor");
const Operator<&group_norm_reference, &group_norm_meta> group_norm_op(
    "kinora::group_norm(Tensor x, int groups, Tensor weight, Tensor bias, float eps, int activation) -> Tensor");

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Without affine part.
struct LayerNormFunction : torch::autograd::Function<LayerNormFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const MaybeTensor& scale, const MaybeTensor& shift,
                        double eps) {
    context->save_for_backward({x, scale.value_or(Tensor()), shift.value_or(Tensor())});
    context->saved_data["eps"] = eps;
    at::AutoDispatchBelowADInplaceOrView below;
    return layer_norm_op(x, std::nullopt, std::nullopt, scale, shift, eps);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    cpu::refuse_second_backward("layer_norm");
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &scale = saved[1], &shift = saved[2];
    const auto wanted = [](const Tensor& t) { return t.defined() && t.requires_grad(); };
    const auto got = cpu::layer_norm_backward(grads[0], x, scale.defined() ? MaybeTensor(scale) : std::nullopt,
                                              scale.defined() ? scale : shift, context->saved_data["eps"].toDouble(),
                                              wanted(scale), wanted(shift));
    return {got.x, got.scale, got.shift, Tensor()};
  }
};

Tensor layer_norm_with_grad(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                            const MaybeTensor& scale, const MaybeTensor& shift, double eps) {
  if (!cpu::has_layer_norm_backward(x, weight, bias, scale, shift)) {
    return layer_norm_reference(x, weight, bias, scale, shift, eps);
  }
  return LayerNormFunction::apply(x, scale, shift, eps);
}

}  // namespace

Tensor layer_norm(const Tensor& x, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                  const std::optional<Tensor>& scale, const std::optional<Tensor>& shift, double eps) {
  return layer_norm_op(x, weight, bias, scale, shift, eps);
}

Tensor rms_norm(const Tensor& x, const std::optional<Tensor>& weight, double eps) {
  return rms_norm_op(x, weight, eps);
}

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                  Activation activation) {
  return group_norm_op(x, groups, weight, bias, eps, static_cast<int64_t>(activation));
}

}  // namespace kinora::ops
