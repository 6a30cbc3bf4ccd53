// Included by fused_rows_*.cpp, each of which names its processors in KINORA_SIMD.
#include "kinora/ops/simd.h"

namespace kinora::ops::KINORA_SIMD {
namespace {

struct Moments {
  float mean, scale;  // scale: 1 / sqrt(variance + eps)
};

/// values [width] in whole vectors, zeros behind. with_mean false: root mean square.
KINORA_INLINE inline Moments moments(const float* values, int64_t width, bool with_mean, float eps) {
  Floats total{};
  float mean = 0;
  if (with_mean) {
    for (int64_t i = 0; i < width; i += kLanes) total += load(values + i);
    mean = sum(total) / static_cast<float>(width);
    total = Floats{};
  }
  for (int64_t i = 0; i < width; i += kLanes) {
    const Floats d = first(load(values + i) - mean, width - i);
    total += d * d;
  }
  return {mean, 1.0F / __builtin_sqrtf(sum(total) / static_cast<float>(width) + eps)};
}

template <typename T>
void layer_norm(const LayerNormRows<T>& a, float* values, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  for (int64_t r = begin; r < end; ++r) {
    const T* const from = a.x.at(r);
    const T* const scale = a.scale.data ? a.scale.at(r) : nullptr;
    const T* const shift = a.shift.data ? a.shift.at(r) : nullptr;
    for (int64_t i = 0; i < width; i += kLanes) store(values + i, load(from + i, width - i));
    const Moments m = moments(values, width, true, a.eps);
    for (int64_t i = 0; i < width; i += kLanes) {
      const int64_t left = width - i;
      Floats y = (load(values + i) - m.mean) * m.scale;
      if (a.weight) y = y * load(a.weight + i, left);
      if (a.bias) y = y + load(a.bias + i, left);
      if (scale) y = y * (1.0F + load(scale + i, left));
      if (shift) y = y + load(shift + i, left);
      store(a.out + r * width + i, y, left);
    }
  }
}

template <typename T>
void gelu_tanh(const T* from, T* to, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats x = load(from + i, count - i);
    // 0.5 (1 + tanh u) = 1 / (1 + e^(-2 u)); -2 sqrt(2 / pi) = -1.5957691
    const Floats u = x * (1.0F + 0.044715F * (x * x)) * -1.5957691216F;
    store(to + i, x / (1.0F + exp(u)), count - i);
  }
}

template <typename T>
void add_residual(const ResidualRows<T>& a, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  for (int64_t r = begin; r < end; ++r) {
    const T *const x = a.x + r * width, *const y = a.y.at(r);
    const T* const gate = a.gate.data ? a.gate.at(r) : nullptr;
    for (int64_t i = 0; i < width; i += kLanes) {
      Floats product = load(y + i, width - i);
      // Rounds on its own: a policy that keeps the product leaves the same bits in the sum.
      if (gate) product = rounded<T>(product * load(gate + i, width - i));
      store(a.out + r * width + i, load(x + i, width - i) + product, width - i);
    }
  }
}

/// The two of each pair in each other's place.
KINORA_INLINE inline Floats swapped(Floats y) {
  return __builtin_shufflevector(y, y, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
}

/// Tables with each angle twice, for both of a pair; the sine with the sign that the pair's first takes.
template <typename Table>
KINORA_INLINE inline void spread_tables(const Table* cosines, const Table* sines, int64_t half, float* cos,
                                        float* sin) {
  for (int64_t i = 0; i < half; i += kLanes / 2) {
    const int64_t left = half - i < kLanes / 2 ? half - i : kLanes / 2;
    const Floats c = load(cosines + i, left), s = load(sines + i, left);
    store(cos + 2 * i, __builtin_shufflevector(c, c, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
    store(sin + 2 * i, __builtin_shufflevector(-s, s, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
  }
}

template <typename T, typename Table>
void norm_rotary(const HeadRows<T, Table>& a, float* scratch, int64_t begin, int64_t end) {
  const int64_t width = a.width, half = width / 2, padded = (width + kLanes - 1) / kLanes * kLanes;
  float* const values = scratch;
  float *const cos = values + padded, *const sin = cos + padded;
  const Table* angles = nullptr;
  for (int64_t r = begin; r < end; ++r) {
    const T* const from = a.x.at(r);
    for (int64_t i = 0; i < width; i += kLanes) store(values + i, load(from + i, width - i));
    if (a.weight) {
      const Moments m = moments(values, width, a.bias != nullptr, a.eps);
      for (int64_t i = 0; i < width; i += kLanes) {
        Floats y = (load(values + i) - m.mean) * m.scale * load(a.weight + i, width - i);
        if (a.bias) y = y + load(a.bias + i, width - i);
        store(values + i, y);
      }
    }
    if (a.cos.data && angles != a.cos.at(r)) {
      angles = a.cos.at(r);
      spread_tables(angles, a.sin.at(r), half, cos, sin);
    }
    for (int64_t i = 0; i < width; i += kLanes) {
      Floats y = load(values + i);
      if (a.cos.data) {
        y = y * load(cos + i) + swapped(y) * load(sin + i);
      }
      store(a.out + r * width + i, y, width - i);
    }
  }
}

template <typename T>
void short_attention(const AttentionRows<T>& a, float* scratch, int64_t begin, int64_t end) {
  const int64_t width = a.width, padded = (width + kLanes - 1) / kLanes * kLanes;
  float *const keys = scratch, *const values = keys + a.keys * padded, *const query = values + a.keys * padded;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t b = unit / a.heads, h = unit % a.heads;
    const auto row = [&](const int64_t* strides, int64_t n)
                         KINORA_INLINE { return b * strides[0] + h * strides[1] + n * strides[2]; };
    for (int64_t j = 0; j < a.keys; ++j) {
      const T *const key = a.k + row(a.k_strides, j), *const value = a.v + row(a.v_strides, j);
      for (int64_t i = 0; i < width; i += kLanes) {
        store(keys + j * padded + i, load(key + i, width - i));
        store(values + j * padded + i, load(value + i, width - i));
      }
    }
    for (int64_t n = 0; n < a.queries; ++n) {
      const T* const from = a.q + row(a.q_strides, n);
      for (int64_t i = 0; i < width; i += kLanes) store(query + i, load(from + i, width - i) * a.scale);
      alignas(64) float scores[kLanes];
      float highest = -__builtin_inff();
      for (int64_t j = 0; j < a.keys; ++j) {
        Floats dot{};
        for (int64_t i = 0; i < width; i += kLanes) dot += load(query + i) * load(keys + j * padded + i);
        scores[j] = sum(dot);
        highest = scores[j] <= highest ? highest : scores[j];
      }
      // Whatever `highest` is, a score that is NaN makes its weight, the sum and so the row NaN.
      const Floats weights = first(exp(load(scores, a.keys) - highest), a.keys);
      store(scores, weights);
      const float inverse = 1.0F / sum(weights);
      T* const to = a.out + row(a.out_strides, n);
      for (int64_t i = 0; i < width; i += kLanes) {
        Floats y{};
        for (int64_t j = 0; j < a.keys; ++j) y += load(values + j * padded + i) * scores[j];
        store(to + i, y * inverse, width - i);
      }
    }
  }
}

}  // namespace
}  // namespace kinora::ops::KINORA_SIMD

#include "kinora/ops/fused_rows_attention.inl"
#include "kinora/ops/fused_rows_backward.inl"
#include "kinora/ops/fused_rows_int8.inl"

namespace kinora::ops::KINORA_SIMD {
namespace {

template <typename T>
constexpr RowKernels<T> kernels() {
  return {.layer_norm = &layer_norm<T>,
          .gelu_tanh = &gelu_tanh<T>,
          .add_residual = &add_residual<T>,
          .norm_rotary = &norm_rotary<T, T>,
          .norm_rotary_float = &norm_rotary<T, float>,
          .short_attention = &short_attention<T>,
          .layer_norm_backward = &layer_norm_backward<T>,
          .gelu_tanh_backward = &gelu_tanh_backward<T>,
          .residual_backward = &residual_backward<T>,
          .norm_rotary_backward = &norm_rotary_backward<T, T>,
          .norm_rotary_backward_float = &norm_rotary_backward<T, float>,
          .block_attention = &block_attention<T>,
          .block_attention_backward = &block_attention_backward<T>,
          .to_int8 = &to_int8<T>,
          .from_int8 = &from_int8<T>};
}

}  // namespace

const AllRowKernels kRowKernels{kernels<float>(), kernels<BFloat16>()};

}  // namespace kinora::ops::KINORA_SIMD
