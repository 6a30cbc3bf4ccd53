// The recipe that makes tensors from their names, so that a case stores only what a reference computed. Element i
// (row-major) of the tensor `name`: z = splitmix64(fnv1a64(name) + i * golden), u = z >> 40 (24 bits). Pure arithmetic:
// the same bits everywhere.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string_view>

namespace kinora::parity {

/// FNV-1a, 64 bits, of the name's UTF-8 bytes: the seed of the tensor.
uint64_t fnv1a64(std::string_view name);

/// u of element `index`: 24 random bits.
uint64_t recipe_bits(uint64_t seed, uint64_t index);

/// float32 [shape], uniform in shift +- scale: (2 u 2^-24 - 1) * scale + shift in double, with scale and shift rounded
/// to float32 first and the value last. Throws DataError for a negative size or more than 2^28 elements.
at::Tensor recipe_real(std::string_view name, at::IntArrayRef shape, double scale = 1.0, double shift = 0.0);

/// int64 [shape] in [low, high): low + (u * (high - low) >> 24). Throws as recipe_real, and when high - low is not in 1
/// .. 2^39.
at::Tensor recipe_ints(std::string_view name, at::IntArrayRef shape, int64_t low, int64_t high);

}  // namespace kinora::parity
