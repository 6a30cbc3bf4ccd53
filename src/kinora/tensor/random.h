// Random numbers equal to PyTorch's: torch.Generator("cpu").manual_seed(seed) drawn in the same order gives the same values.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace kinora {

/// A CPU generator (Mersenne twister; normals by Box-Muller as PyTorch lays them out: sizes below 16 take another path).
at::Generator cpu_generator(uint64_t seed);

/// Standard normal values drawn on the CPU, so that a seed means the same clip on every device, then moved.
at::Tensor randn(at::IntArrayRef shape, at::Generator& generator, at::ScalarType dtype = at::kFloat,
                 at::Device device = at::kCPU);

}  // namespace kinora
