#include "kinora/train/trainable.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"

namespace kinora::train {
namespace {

Tensor leaf(const Tensor& value, at::ScalarType dtype, at::Device device, bool trainable) {
  Tensor t = value.detach().to(device, dtype, false, true);
  return t.set_requires_grad(trainable);
}

}  // namespace

Tensor orthogonalized(const Tensor& matrix, at::ScalarType compute_dtype) {
  // Coefficients of the published iteration: slope 3.44 at 0, so that small singular values rise fast; it ends within 0.3 of 1.
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
  const bool tall = matrix.size(0) > matrix.size(1);
  Tensor x = tall ? matrix.t() : matrix;
  x = (x / (x.norm() + 1e-7)).to(compute_dtype);
  for (int i = 0; i < 5; ++i) {
    const Tensor gram = at::mm(x, x.t());
    x = a * x + at::mm(at::addmm(b * gram, gram, gram, 1.0, c), x);
  }
  return (tall ? x.t() : x).to(matrix.scalar_type());
}

Trainable::Trainable(const Params& params, const ResidentWeights& start, at::ScalarType run_dtype, at::Device device,
                     OptimizerOptions options)
    : params_(&params), options_(std::move(options)) {
  at::NoGradGuard no_grad;
  std::vector<Tensor> leaves;
  auto source = start;
  for (const auto& p : params) {
    const bool trainable = params.options(p.id).trainable;
    const Tensor value = source.get(p);
    leaves.push_back(leaf(value, run_dtype, device, trainable));
    if (!trainable) continue;
    const bool muon = options_.muon_lr > 0 && p.shape.size() >= 2 && options_.use_muon && options_.use_muon(p);
    const Tensor master = value.to(device, at::kFloat, false, true);
    slots_.push_back({.id = p.id,
                      .muon = muon,
                      .master = master,
                      .ema = master.clone(),
                      .momentum = at::zeros_like(master),
                      .second = muon ? Tensor() : at::zeros_like(master)});
  }
  parts_.emplace_back(std::move(leaves));
}

void Trainable::set_parts(int64_t parts) {
  parts_.erase(parts_.begin() + 1, parts_.end());
  clear_gradients();
  for (int64_t part = 1; part < parts; ++part) {
    std::vector<Tensor> leaves;
    for (const Tensor& first : parts_[0].tensors())
      leaves.push_back(first.detach().set_requires_grad(first.requires_grad()));
    parts_.emplace_back(std::move(leaves));
  }
}

ResidentWeights Trainable::averaged(at::ScalarType dtype) const {
  std::vector<Tensor> tensors;
  for (const auto& [name, tensor] : averaged_tensors(dtype)) tensors.push_back(tensor);
  return ResidentWeights(std::move(tensors));
}

NamedTensors Trainable::averaged_tensors(at::ScalarType dtype) const {
  at::NoGradGuard no_grad;
  NamedTensors out;
  auto weights = parts_[0];
  for (const auto& p : *params_) out.emplace_back(p.name, weights.get(p).detach().to(dtype, false, true));
  for (const auto& slot : slots_) out[slot.id].second = slot.ema.to(dtype, false, true);
  return out;
}

Tensor Trainable::gradient(const Slot& slot) const {
  Tensor sum;
  for (const auto& part : parts_) {
    const Tensor& own = part.tensors()[slot.id].grad();
    if (own.defined()) sum = sum.defined() ? sum + own : own.to(at::kFloat);
  }
  return sum.defined() && parts_.size() > 1 ? sum / static_cast<double>(parts_.size()) : sum;
}

double Trainable::squared_grad_norm() const {
  double total = 0;
  for (const auto& slot : slots_) {
    const Tensor grad = gradient(slot);
    if (grad.defined()) total += grad.square().sum().item<double>();
  }
  return total;
}

void Trainable::clear_gradients() {
  for (auto& part : parts_) {
    for (const auto& slot : slots_) part.tensors()[slot.id].mutable_grad().reset();
  }
}

void Trainable::step_adamw(double lr_factor, double grad_scale) {
  std::vector<Tensor> masters, grads, firsts, seconds, counts;
  for (auto& slot : slots_) {
    if (slot.muon) continue;
    const Tensor grad = gradient(slot);
    if (!grad.defined()) continue;
    masters.push_back(slot.master);
    grads.push_back(grad * grad_scale);
    firsts.push_back(slot.momentum);
    seconds.push_back(slot.second);
    counts.push_back(at::full({}, static_cast<double>(steps_), slot.master.options()));
  }
  if (masters.empty()) return;
  at::_fused_adamw_(masters, grads, firsts, seconds, {}, counts, options_.lr * lr_factor, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.eps, false, false);
}

void Trainable::step_muon(Slot& slot, double lr_factor, double grad_scale) {
  const Tensor mean = gradient(slot);
  if (!mean.defined()) return;
  const Tensor grad = mean * grad_scale;
  slot.momentum.mul_(options_.muon_momentum).add_(grad);
  const Tensor update = orthogonalized((grad + options_.muon_momentum * slot.momentum).flatten(1),
                                       parts_[0].tensors()[slot.id].scalar_type());
  const double longest = static_cast<double>(std::max(update.size(0), update.size(1)));
  const double lr = options_.muon_lr * lr_factor;
  slot.master.mul_(1 - lr * options_.weight_decay)
      .sub_(update.view(slot.master.sizes()), lr * 0.2 * std::sqrt(longest));
}

void Trainable::step(double lr_factor, double grad_scale) {
  at::NoGradGuard no_grad;
  ++steps_;
  step_adamw(lr_factor, grad_scale);
  const double decay = std::min(options_.ema_decay, (1.0 + steps_) / (10.0 + steps_));
  for (auto& slot : slots_) {
    if (slot.muon) step_muon(slot, lr_factor, grad_scale);
    slot.ema.lerp_(slot.master, 1 - decay);
    parts_[0].tensors()[slot.id].detach().copy_(slot.master);
  }
  clear_gradients();
}

NamedTensors Trainable::state(const std::string& prefix) const {
  NamedTensors out;
  for (const auto& slot : slots_) {
    const std::string& name = (*params_)[slot.id].name;
    out.emplace_back(prefix + "master." + name, slot.master);
    out.emplace_back(prefix + "ema." + name, slot.ema);
    out.emplace_back(prefix + "momentum." + name, slot.momentum);
    if (slot.second.defined()) out.emplace_back(prefix + "second." + name, slot.second);
  }
  out.emplace_back(prefix + "steps", at::full({1}, steps_, at::kLong));
  return out;
}

void Trainable::load_state(const Checkpoint& checkpoint, const std::string& prefix) {
  at::NoGradGuard no_grad;
  const auto read = [&](const std::string& name, Tensor& into) {
    const Tensor value = load_tensor(checkpoint.require(prefix + name));
    if (value.sizes() != into.sizes())
      throw DataError(concat(checkpoint.path().string(), ": ", prefix, name, " is of another model"));
    into.copy_(value);
  };
  for (auto& slot : slots_) {
    const std::string& name = (*params_)[slot.id].name;
    read("master." + name, slot.master);
    read("ema." + name, slot.ema);
    read("momentum." + name, slot.momentum);
    if (slot.second.defined()) read("second." + name, slot.second);
    parts_[0].tensors()[slot.id].detach().copy_(slot.master);
  }
  Tensor steps = at::zeros({1}, at::kLong);
  read("steps", steps);
  steps_ = steps.item<int64_t>();
}

}  // namespace kinora::train
