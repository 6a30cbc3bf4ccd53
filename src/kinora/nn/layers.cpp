#include "kinora/nn/layers.h"

#include "kinora/base/error.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/norm.h"

namespace kinora {
namespace {

Tensor tensor_or_none(const Run& run, const std::optional<Param>& param) {
  return param ? run.weights->get(*param) : Tensor();
}

std::optional<Tensor> if_defined(const Tensor& t) { return t.defined() ? std::optional<Tensor>(t) : std::nullopt; }

std::optional<Param> maybe(bool wanted, const Scope& scope, std::string_view name, int64_t size, Init init) {
  if (!wanted) return std::nullopt;
  return scope.param(name, {size}, {.init = std::move(init)});
}

}  // namespace

Linear::Linear(const Scope& scope, int64_t in, int64_t out, const LinearOptions& options)
    : weight_(scope.param("weight", {out, in}, {.init = options.init})),
      bias_(maybe(options.bias, scope, "bias", out, init::zeros)) {}

Tensor Linear::operator()(const Run& run, const Tensor& x) const { return run.weights->linear(x, weight_, bias()); }

Mlp::Mlp(const Scope& first, const Scope& second, int64_t in, int64_t hidden, int64_t out, ops::Activation activation,
         const LinearOptions& second_options)
    : first_(first, in, hidden), second_(second, hidden, out, second_options), activation_(activation) {}

Tensor Mlp::operator()(const Run& run, const Tensor& x) const {
  return second_(run, ops::activate(first_(run, x), activation_));
}

LayerNorm::LayerNorm(const Scope& scope, int64_t width, const NormOptions& options)
    : weight_(maybe(options.weight, scope, "weight", width, init::ones)),
      bias_(maybe(options.weight && options.bias, scope, "bias", width, init::zeros)),
      eps_(options.eps) {}

Tensor LayerNorm::operator()(const Run& run, const Tensor& x, const Tensor& scale, const Tensor& shift) const {
  return ops::layer_norm(x, if_defined(tensor_or_none(run, weight_)), if_defined(tensor_or_none(run, bias_)),
                         if_defined(scale), if_defined(shift), eps_);
}

RmsNorm::RmsNorm(const Scope& scope, int64_t width, double eps)
    : weight_(scope.param("weight", {width}, {.init = init::ones})), eps_(eps) {}

Tensor RmsNorm::operator()(const Run& run, const Tensor& x) const {
  return ops::rms_norm(x, run.weights->get(weight_), eps_);
}

Conv::Conv(const Scope& scope, int64_t in, int64_t out, std::vector<int64_t> kernel, ConvOptions options)
    : options_(std::move(options)) {
  KINORA_ASSERT(kernel.size() == 2 || kernel.size() == 3);
  options_.stride.resize(kernel.size(), 1);
  options_.padding.resize(kernel.size(), 0);
  std::vector<int64_t> shape{out, in};
  shape.insert(shape.end(), kernel.begin(), kernel.end());
  weight_ = scope.param("weight", std::move(shape), {.init = init::kaiming_uniform});
  bias_ = maybe(options_.bias, scope, "bias", out, init::zeros);
}

Tensor Conv::operator()(const Run& run, const Tensor& x) const {
  return ops::conv(x, run.weights->get(weight_), if_defined(tensor_or_none(run, bias_)), options_.stride,
                   options_.padding);
}

GroupNorm::GroupNorm(const Scope& scope, int64_t groups, int64_t channels, double eps)
    : weight_(scope.param("weight", {channels}, {.init = init::ones})),
      bias_(scope.param("bias", {channels}, {.init = init::zeros})),
      groups_(groups),
      eps_(eps) {}

Tensor GroupNorm::operator()(const Run& run, const Tensor& x, ops::Activation activation) const {
  return ops::group_norm(x, groups_, run.weights->get(weight_), run.weights->get(bias_), eps_, activation);
}

}  // namespace kinora
