// Sixteen floats at a time, for fused_rows.inl. Written with the compilers' vector extension: the same source becomes
// AVX-512, AVX2 or baseline code. A part of a vector is computed as a whole one with zeros, so that a value's bits do
// not depend on where a tensor was cut.
#pragma once

#include <cstdint>
#include <cstring>

#include "kinora/ops/fused_rows.h"

namespace kinora::ops::KINORA_SIMD {

using Floats = float __attribute__((vector_size(64)));
using Bits = uint32_t __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));

KINORA_INLINE inline Floats all(float x) { return Floats{} + x; }
KINORA_INLINE inline Floats select(Ints mask, Floats a, Floats b) {
  return (Floats)(((Bits)mask & (Bits)a) | (~(Bits)mask & (Bits)b));
}

KINORA_INLINE inline Floats load(const float* from) {
  Floats x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
KINORA_INLINE inline Floats load(const BFloat16* from) {
  Halves h;
  std::memcpy(&h, from, sizeof h);
  return (Floats)(__builtin_convertvector(h, Bits) << 16);
}
KINORA_INLINE inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }
/// To the nearest, halves to even, as ATen rounds.
KINORA_INLINE inline void store(BFloat16* to, Floats x) {
  const Bits bits = (Bits)x, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Bits nan = (Bits)(x != x);
  const Halves h = __builtin_convertvector((nan & 0x7fc0) | (~nan & rounded), Halves);
  std::memcpy(to, &h, sizeof h);
}

/// The first `count` of a vector; zeros are read, and nothing is written, past them.
template <typename T>
KINORA_INLINE inline Floats load(const T* from, int64_t count) {
  if (count >= kLanes) return load(from);
  alignas(64) T part[kLanes] = {};
  std::memcpy(static_cast<void*>(part), from, static_cast<size_t>(count) * sizeof(T));
  return load(part);
}
template <typename T>
KINORA_INLINE inline void store(T* to, Floats x, int64_t count) {
  if (count >= kLanes) return store(to, x);
  alignas(64) T part[kLanes];
  store(part, x);
  std::memcpy(static_cast<void*>(to), part, static_cast<size_t>(count) * sizeof(T));
}

/// What storing as T and loading again gives. Also keeps the compiler from joining a product and a sum into one
/// rounding.
template <typename T>
KINORA_INLINE inline Floats rounded(Floats x) {
  alignas(64) T memory[kLanes];
  store(memory, x);
  asm("" : "+m"(memory));
  return load(memory);
}

/// Lanes at and after `count` become zero.
KINORA_INLINE inline Floats first(Floats x, int64_t count) {
  constexpr Ints kIndex = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return count >= kLanes ? x : select(kIndex < static_cast<int32_t>(count), x, Floats{});
}

/// In a fixed order: halves onto each other.
KINORA_INLINE inline float sum(Floats x) {
  x += __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  x += __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  x += __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  x += __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return x[0];
}

/// e^x to 2 units in the last place for -87 <= x <= 88; what lies outside counts as the bound. Cephes' polynomial.
KINORA_INLINE inline Floats exp(Floats x) {
  x = select(x < all(-87), all(-87), x);
  x = select(x > all(88), all(88), x);
  const Floats to_whole = all(12582912.0F);  // 1.5 * 2^23: adding it leaves no fraction
  const Floats n = (x * 1.44269504F + to_whole) - to_whole;
  const Floats r = x - n * 0.693359375F - n * -2.12194440e-4F;  // ln 2 in two parts
  Floats p = all(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const Floats power = (Floats)((__builtin_convertvector(n, Ints) + 127) << 23);
  return (p * r * r + r + 1.0F) * power;
}

}  // namespace kinora::ops::KINORA_SIMD
