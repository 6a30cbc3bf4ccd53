#include "kinora/tensor/random.h"

#include <ATen/CPUGeneratorImpl.h>

namespace kinora {

at::Generator cpu_generator(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

at::Tensor randn(at::IntArrayRef shape, at::Generator& generator, at::ScalarType dtype, at::Device device) {
  return at::randn(shape, generator, at::TensorOptions().dtype(dtype)).to(device);
}

}  // namespace kinora
