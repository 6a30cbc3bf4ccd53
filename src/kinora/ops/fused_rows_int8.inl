// Included by fused_rows.inl: rows in a byte each.
namespace kinora::ops::KINORA_SIMD {
namespace {

using Bytes = int8_t __attribute__((vector_size(16)));

template <typename T>
void to_int8(const Int8FromRows<T>& a, int64_t begin, int64_t end) {
  constexpr int32_t kInfinity = 0x7f800000;
  for (int64_t r = begin; r < end; ++r) {
    const T* const from = a.x.at(r);
    int8_t* const to = a.values + r * a.width;
    // The bits of magnitudes are ordered as integers are, with what is not finite above the rest.
    Ints highest{};
    for (int64_t i = 0; i < a.width; i += kLanes) {
      const Ints bits = (Ints)load(from + i, a.width - i) & 0x7fffffff;
      const Ints above = bits > highest;
      highest = (above & bits) | (~above & highest);
    }
    int32_t bits = 0;
    for (int64_t i = 0; i < kLanes; ++i) bits = highest[i] > bits ? highest[i] : bits;
    float most;
    std::memcpy(&most, &bits, sizeof most);
    const bool is_zero = most < kLeastInt8Row;
    if (bits >= kInfinity || is_zero) {
      a.scales[r] = is_zero ? 0.0F : __builtin_nanf("");
      std::memset(to, 0, static_cast<size_t>(a.width));
      continue;
    }
    a.scales[r] = most / 127.0F;
    const float inverse = 127.0F / most;
    const Floats to_whole = all(12582912.0F);  // 1.5 * 2^23: adding it leaves no fraction
    for (int64_t i = 0; i < a.width; i += kLanes) {
      const Floats whole = (load(from + i, a.width - i) * inverse + to_whole) - to_whole;
      const Bytes bytes = __builtin_convertvector(__builtin_convertvector(whole, Ints), Bytes);
      const int64_t left = a.width - i;
      std::memcpy(to + i, &bytes, static_cast<size_t>(left < kLanes ? left : kLanes));
    }
  }
}

template <typename T>
void from_int8(const Int8ToRows<T>& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const int8_t* const from = a.values + r * a.width;
    const float scale = a.scales[r];
    for (int64_t i = 0; i < a.width; i += kLanes) {
      const int64_t left = a.width - i;
      Bytes bytes{};
      std::memcpy(&bytes, from + i, static_cast<size_t>(left < kLanes ? left : kLanes));
      store(a.out + r * a.width + i, __builtin_convertvector(__builtin_convertvector(bytes, Ints), Floats) * scale, left);
    }
  }
}

}  // namespace
}  // namespace kinora::ops::KINORA_SIMD
