#include "seams/streamed.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <stdexcept>

#include "kinora/ops/linear.h"
#include "kinora/ops/register.h"

namespace kinora::seams {
namespace {

OneSlot& source_at(int64_t address) {
  return *reinterpret_cast<OneSlot*>(address);
}  // NOLINT: schemas know no pointers

Tensor streamed(const Tensor& x, const ops::MaybeTensor& bias, const Tensor&, int64_t source, int64_t weight) {
  return at::linear(x, source_at(source).fetch(weight), bias);
}

Tensor streamed_meta(const Tensor& x, const ops::MaybeTensor&, const Tensor&, int64_t source, int64_t weight) {
  auto shape = x.sizes().vec();
  shape.back() = source_at(source).values().at(static_cast<size_t>(weight)).size(0);
  return x.new_empty(shape);
}

Tensor streamed_with_grad(const Tensor& x, const ops::MaybeTensor& bias, const Tensor& ticket, int64_t source,
                          int64_t weight);

const ops::Operator<&streamed, &streamed_meta> streamed_op(
    "kinora::seams_streamed_linear(Tensor x, Tensor? bias, Tensor ticket, int source, int weight) -> Tensor", &streamed,
    &streamed, &streamed_with_grad);

struct StreamedLinear : torch::autograd::Function<StreamedLinear> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& bias,
                        const Tensor& ticket, int64_t source, int64_t weight) {
    context->save_for_backward({x});
    context->saved_data["source"] = source;
    context->saved_data["weight"] = weight;
    context->saved_data["has_bias"] = bias.defined();
    at::AutoDispatchBelowADInplaceOrView below;
    return streamed_op(x, bias.defined() ? ops::MaybeTensor(bias) : std::nullopt, ticket, source, weight);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const Tensor x = context->get_saved_variables()[0], g = grads[0].flatten(0, -2);
    OneSlot& source = source_at(context->saved_data["source"].toInt());
    const int64_t weight = context->saved_data["weight"].toInt();
    source.add_gradient(weight, at::matmul(g.t(), x.reshape({-1, x.size(-1)})));
    const Tensor of_x = at::matmul(grads[0], source.fetch(weight));
    return {of_x, context->saved_data["has_bias"].toBool() ? g.sum(0) : Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor streamed_with_grad(const Tensor& x, const ops::MaybeTensor& bias, const Tensor& ticket, int64_t source,
                          int64_t weight) {
  return StreamedLinear::apply(x, bias.value_or(Tensor()), ticket, source, weight);
}

}  // namespace

OneSlot::OneSlot(std::vector<Tensor> values) : values_(std::move(values)) {
  int64_t largest = 0;
  for (const Tensor& t : values_) largest = std::max(largest, t.numel());
  slot_ = at::full({largest}, NAN, values_[0].options().requires_grad(false));
  ticket_ = at::zeros({0}, slot_.options()).requires_grad_(true);
}

Tensor OneSlot::get(const Param& param) { return values_.at(static_cast<size_t>(param.id)); }

void OneSlot::poison() {
  at::NoGradGuard no_grad;
  slot_.fill_(NAN);
  is_taken_ = false;
}

Tensor OneSlot::view_of_slot(int64_t id, bool owned) {
  if (is_taken_.exchange(true)) throw std::logic_error("the only slot is asked for while somebody holds it");
  at::NoGradGuard no_grad;
  const Tensor& value = values_.at(static_cast<size_t>(id));
  ++fetches[id];
  std::copy_n(value.const_data_ptr<double>(), value.numel(), slot_.mutable_data_ptr<double>());
  if (!owned) return at::from_blob(slot_.mutable_data_ptr<double>(), value.sizes(), slot_.options());
  return at::from_blob(
      slot_.mutable_data_ptr<double>(), value.sizes(), [this](void*) { poison(); }, slot_.options());
}

Tensor OneSlot::fetch(int64_t id) { return view_of_slot(id, true); }

Tensor OneSlot::linear(const Tensor& x, const Param& weight, const Param* bias) {
  const auto optional_bias = bias ? std::optional<Tensor>(get(*bias)) : std::nullopt;
  if (saves_slot) return ops::linear(x, fetch(weight.id), optional_bias);
  if (frees_by_scope) {
    const Tensor out = ops::linear(x, view_of_slot(weight.id, false), optional_bias);
    poison();
    return out;
  }
  return streamed_op(x, optional_bias, ticket_, reinterpret_cast<int64_t>(this), weight.id);  // NOLINT
}

void OneSlot::add_gradient(int64_t id, const Tensor& gradient) {
  Tensor& sum = gradients[id];
  sum = sum.defined() ? sum + gradient : gradient;
}

int OneSlot::fetched() const {
  int total = 0;
  for (const auto& [id, n] : fetches) total += n;
  return total;
}

}  // namespace kinora::seams
