#include "kinora/nn/weights.h"

#include <ATen/core/grad_mode.h>

#include "kinora/base/error.h"
#include "kinora/ops/linear.h"
#include "kinora/tensor/random.h"

namespace kinora {

Tensor WeightSource::linear(const Tensor& x, const Param& weight, const Param* bias) {
  return ops::linear(x, get(weight), bias ? std::optional<Tensor>(get(*bias)) : std::nullopt);
}

Tensor ResidentWeights::get(const Param& param) {
  KINORA_ASSERT(param.id >= 0 && param.id < static_cast<int32_t>(tensors_.size()));
  return tensors_[param.id];
}

ResidentWeights init_weights(const Params& params, uint64_t seed, at::ScalarType dtype, at::Device device) {
  at::NoGradGuard no_grad;
  at::Generator generator = cpu_generator(seed);
  std::vector<Tensor> tensors;
  for (const auto& p : params) {
    Tensor value = at::empty(p.shape, at::kFloat);
    params.options(p.id).init(value, generator);
    tensors.push_back(value.to(device, dtype));
  }
  return ResidentWeights(std::move(tensors));
}

}  // namespace kinora
