// Counter-based random numbers: number n of key k is a pure function of (k, n), so that a scene does not depend on
// threads or on what was drawn before. SplitMix64 finaliser of Steele, Lea and Flood, "Fast splittable pseudorandom
// number generators", OOPSLA 2014.
#pragma once

#include <cstdint>
#include <string_view>

namespace kinora::world {

/// Scrambles 64 bits; a bijection.
constexpr uint64_t scramble(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

/// One key out of two, for example of a seed and a sample's index.
constexpr uint64_t join(uint64_t a, uint64_t b) { return scramble(scramble(a) ^ (b * 0xD1342543DE82EF95ull + 1)); }

/// A key out of a text (FNV-1a, then scrambled).
constexpr uint64_t key_of(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return scramble(hash);
}

/// The numbers of one key, in order.
class Random {
 public:
  explicit constexpr Random(uint64_t key) : key_(key) {}
  constexpr uint64_t bits() { return join(key_, counter_++); }
  /// Uniform in [0, 1).
  constexpr double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform in 0 .. count - 1; count >= 1.
  constexpr uint64_t below(uint64_t count) { return static_cast<uint64_t>(uniform() * static_cast<double>(count)); }

 private:
  uint64_t key_;
  uint64_t counter_ = 0;
};

}  // namespace kinora::world
