// For tests of every room: tensors that are quickly made.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "kinora/tensor/random.h"

namespace kinora {

/// Standard normal values.
inline at::Tensor normal(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  at::Generator generator = cpu_generator(seed);
  return randn(shape, generator, dtype);
}

/// [texts, width] int64: 1 in the first lengths[b] columns of row b.
inline at::Tensor prefix_mask(const std::vector<int64_t>& lengths, int64_t width) {
  at::Tensor mask = at::zeros({static_cast<int64_t>(lengths.size()), width}, at::kLong);
  for (size_t b = 0; b < lengths.size(); ++b) mask[static_cast<int64_t>(b)].narrow(0, 0, lengths[b]).fill_(1);
  return mask;
}

}  // namespace kinora
