#include "kinora/nn/linear_by_id.h"

#include <torch/csrc/autograd/custom_function.h>

#include "kinora/ops/register.h"

namespace kinora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

SourceById& source_at(int64_t address) {
  return *reinterpret_cast<SourceById*>(address);  // NOLINT: schemas know no pointers
}

Tensor by_id(const Tensor& x, const ops::MaybeTensor& bias, const Tensor&, int64_t source, int64_t weight) {
  return source_at(source).linear_now(x, static_cast<int32_t>(weight), bias);
}

Tensor by_id_meta(const Tensor& x, const ops::MaybeTensor&, const Tensor&, int64_t source, int64_t weight) {
  auto shape = x.sizes().vec();
  shape.back() = source_at(source).out_features(static_cast<int32_t>(weight));
  return x.new_empty(shape);
}

Tensor by_id_with_grad(const Tensor& x, const ops::MaybeTensor& bias, const Tensor& ticket, int64_t source,
                       int64_t weight);

const ops::Operator<&by_id, &by_id_meta> by_id_op(
    "kinora::linear_by_id(Tensor x, Tensor? bias, Tensor ticket, int source, int weight_id) -> Tensor", &by_id, &by_id,
    &by_id_with_grad);

struct LinearById : torch::autograd::Function<LinearById> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& bias, const Tensor& ticket,
                        int64_t source, int64_t weight) {
    context->save_for_backward({x});
    context->saved_data["source"] = source;
    context->saved_data["weight"] = weight;
    context->saved_data["has_bias"] = bias.defined();
    at::AutoDispatchBelowADInplaceOrView below;
    return by_id_op(x, bias.defined() ? ops::MaybeTensor(bias) : std::nullopt, ticket, source, weight);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const Tensor x = context->get_saved_variables()[0], g = grads[0].flatten(0, -2);
    SourceById& source = source_at(context->saved_data["source"].toInt());
    const auto weight = static_cast<int32_t>(context->saved_data["weight"].toInt());
    source.add_gradient(weight, at::matmul(g.t(), x.reshape({-1, x.size(-1)})));
    const Tensor of_x = at::matmul(grads[0], source.weight_now(weight));
    return {of_x, context->saved_data["has_bias"].toBool() ? g.sum(0) : Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor by_id_with_grad(const Tensor& x, const ops::MaybeTensor& bias, const Tensor& ticket, int64_t source,
                       int64_t weight) {
  return LinearById::apply(x, bias.value_or(Tensor()), ticket, source, weight);
}

}  // namespace

Tensor SourceById::linear(const Tensor& x, const Param& weight, const Param* bias) {
  if (!is_by_id(weight.id)) return WeightSource::linear(x, weight, bias);
  const auto optional_bias = bias ? std::optional<Tensor>(get(*bias)) : std::nullopt;
  return by_id_op(x, optional_bias, ticket_, reinterpret_cast<int64_t>(this), weight.id);  // NOLINT
}

void SourceById::add_gradient(int32_t id, const Tensor& gradient) {
  const std::lock_guard lock(mutex_);
  Tensor& sum = gradients_[id];
  sum = sum.defined() ? sum + gradient : gradient;
}

}  // namespace kinora
