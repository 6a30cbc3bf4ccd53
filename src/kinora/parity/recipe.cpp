#include "kinora/parity/recipe.h"

#include "kinora/base/error.h"

namespace kinora::parity {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
constexpr int64_t kMaxElements = int64_t{1} << 28;  // a case is tiny; a damaged file must not take the machine's memory

int64_t count(std::string_view name, at::IntArrayRef shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 0 || size > kMaxElements || (elements *= size) > kMaxElements) {
      throw DataError(concat("the recipe of '", name, "' has a size that cannot be"));
    }
  }
  return elements;
}

}  // namespace

uint64_t fnv1a64(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  }
  return hash;
}

uint64_t recipe_bits(uint64_t seed, uint64_t index) {
  uint64_t z = seed + index * kGolden + kGolden;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return (z ^ (z >> 31)) >> 40;
}

at::Tensor recipe_real(std::string_view name, at::IntArrayRef shape, double scale, double shift) {
  const int64_t elements = count(name, shape);
  at::Tensor out = at::empty(shape, at::kFloat);
  float* data = out.mutable_data_ptr<float>();
  const uint64_t seed = fnv1a64(name);
  // The product has at most 49 bits, so it is exact, and a compiler that fuses it with the sum gives the same value.
  const double factor = static_cast<float>(scale);
  const double offset = static_cast<float>(shift);
  for (int64_t i = 0; i < elements; ++i) {
    const double unit = static_cast<double>(recipe_bits(seed, static_cast<uint64_t>(i))) * 0x1p-24;
    data[i] = static_cast<float>((2 * unit - 1) * factor + offset);
  }
  return out;
}

at::Tensor recipe_ints(std::string_view name, at::IntArrayRef shape, int64_t low, int64_t high) {
  const int64_t elements = count(name, shape);
  constexpr int64_t kMost = int64_t{1} << 39;  // times 24 bits it still fits 64
  if (low < -kMost || low > kMost || high <= low || high > kMost || high - low > kMost) {
    throw DataError(concat("the recipe of '", name, "' has no integers from ", low, " to below ", high));
  }
  at::Tensor out = at::empty(shape, at::kLong);
  int64_t* data = out.mutable_data_ptr<int64_t>();
  const uint64_t seed = fnv1a64(name);
  const auto range = static_cast<uint64_t>(high - low);
  for (int64_t i = 0; i < elements; ++i) {
    data[i] = low + static_cast<int64_t>(recipe_bits(seed, static_cast<uint64_t>(i)) * range >> 24);
  }
  return out;
}

}  // namespace kinora::parity
