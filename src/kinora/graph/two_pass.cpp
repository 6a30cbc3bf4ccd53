#include "kinora/graph/two_pass.h"

#include "kinora/base/error.h"
#include "kinora/ops/linear.h"

namespace kinora::graph {

void Moments::add(const Tensor& piece) {
  const Tensor rows = piece.reshape({piece.size(0), groups_, -1});
  const Tensor wide = rows.scalar_type() == at::kDouble ? rows : rows.to(at::kFloat);
  const auto n = static_cast<double>(rows.size(2));
  const auto [variance, mean] = at::var_mean(wide, at::OptionalIntArrayRef({2}), std::optional<at::Scalar>(0), false);
  const Tensor squares = variance * n;
  if (count_ == 0) {
    mean_ = mean, squares_ = squares, count_ = n;
    return;
  }
  const double all = count_ + n;
  const Tensor apart = mean - mean_;
  mean_ = mean_ + apart * (n / all);
  squares_ = squares_ + squares + apart.square() * (count_ * n / all);
  count_ = all;
}

Tensor Moments::norm(const Tensor& piece, const Tensor& weight, const Tensor& bias, double eps) const {
  const int64_t channels = piece.size(1);
  const auto wide = mean_.scalar_type();
  const auto per_channel = [&](const Tensor& t) { return t.repeat_interleave(channels / groups_, 1); };  // [B, C]
  Tensor scale = per_channel((squares_ / count_ + eps).rsqrt());
  if (weight.defined()) scale = scale * weight.to(wide);
  Tensor shift = -scale * per_channel(mean_);
  if (bias.defined()) shift = shift + bias.to(wide);
  std::vector<int64_t> shape(static_cast<size_t>(piece.dim()), 1);
  shape[0] = piece.size(0), shape[1] = channels;
  if (piece.scalar_type() == wide) return at::addcmul(shift.view(shape), piece, scale.view(shape));
  return at::addcmul(shift.view(shape), piece.to(wide), scale.view(shape)).to(piece.scalar_type());
}

Tensor norm_by_moments(const Node& node, const CallStack& a, const Moments& moments) {
  const auto or_none = [](const c10::IValue& v) { return v.isTensor() ? v.toTensor() : Tensor(); };
  const Tensor y = moments.norm(a[0].toTensor(), or_none(a[2]), or_none(a[3]), a[4].toDouble());
  return node.name() == "kinora::group_norm" ? ops::activate(y, static_cast<ops::Activation>(a[5].toInt())) : y;
}

}  // namespace kinora::graph
