// Backward loops for training, included by fused_rows.inl. Each computes its row's statistics again: reading x once
// more is cheaper than keeping them.

namespace kinora::ops::KINORA_SIMD {
namespace {

KINORA_INLINE inline void add(float* to, Floats x) { store(to, load(to) + x); }

/// With n = (x - mean) / deviation and d the gradient at n: (d - mean(d) - n mean(d n)) / deviation.
template <typename T>
void layer_norm_backward(const LayerNormGradRows<T>& a, float* scratch, float* of_scale, float* of_shift,
                         int64_t begin, int64_t end) {
  const int64_t width = a.width, padded = (width + kLanes - 1) / kLanes * kLanes;
  float *const normed = scratch, *const inner = scratch + padded;
  const float share = 1.0F / static_cast<float>(width);
  for (int64_t r = begin; r < end; ++r) {
    const T *const from = a.x.at(r), *const grad = a.grad.at(r);
    const T* const scale = a.scale.data ? a.scale.at(r) : nullptr;
    for (int64_t i = 0; i < width; i += kLanes) store(normed + i, load(from + i, width - i));
    const Moments m = moments(normed, width, true, a.eps);
    Floats total{}, along{};
    for (int64_t i = 0; i < width; i += kLanes) {
      const Floats n = (load(normed + i) - m.mean) * m.scale, g = load(grad + i, width - i);
      const Floats d = scale ? g * (1.0F + load(scale + i, width - i)) : g;
      total += d;
      along += d * n;
      if (of_scale) add(of_scale + i, g * n);
      if (of_shift) add(of_shift + i, g);
      store(normed + i, n);
      store(inner + i, d);
    }
    const float mean = sum(total) * share, slope = sum(along) * share;
    for (int64_t i = 0; i < width; i += kLanes) {
      store(a.out + r * width + i, (load(inner + i) - mean - load(normed + i) * slope) * m.scale, width - i);
    }
  }
}

template <typename T>
void gelu_tanh_backward(const T* from, const T* grad, T* to, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats x = load(from + i, count - i), squared = x * x;
    // y = x s with s = 1 / (1 + e^-v), v = 2 sqrt(2 / pi) (x + 0.044715 x^3): y' = s + x s (1 - s) v'
    const Floats s = 1.0F / (1.0F + exp(x * (1.0F + 0.044715F * squared) * -1.5957691216F));
    const Floats slope = 1.5957691216F + 0.2140644488F * squared;
    store(to + i, load(grad + i, count - i) * (s + x * s * (1.0F - s) * slope), count - i);
  }
}

template <typename T>
void residual_backward(const ResidualGradRows<T>& a, float* of_gate, int64_t begin, int64_t end) {
  const int64_t width = a.width;
  for (int64_t r = begin; r < end; ++r) {
    const T *const y = a.y.at(r), *const gate = a.gate.at(r), *const grad = a.grad.at(r);
    for (int64_t i = 0; i < width; i += kLanes) {
      const Floats g = load(grad + i, width - i);
      store(a.out + r * width + i, g * load(gate + i, width - i), width - i);
      if (of_gate) add(of_gate + i, g * load(y + i, width - i));
    }
  }
}

template <typename T, typename Table>
void norm_rotary_backward(const HeadGradRows<T, Table>& a, float* scratch, float* of_weight, int64_t begin,
                          int64_t end) {
  const int64_t width = a.width, padded = (width + kLanes - 1) / kLanes * kLanes;
  float *const values = scratch, *const inner = values + padded;
  float *const cos = inner + padded, *const sin = cos + padded;
  const float share = 1.0F / static_cast<float>(width);
  const Table* angles = nullptr;
  for (int64_t r = begin; r < end; ++r) {
    const T *const from = a.x.at(r), *const grad = a.grad.at(r);
    T* const to = const_cast<T*>(a.out.at(r));  // memory that was given to be written
    if (a.cos.data && angles != a.cos.at(r)) {
      angles = a.cos.at(r);
      spread_tables(angles, a.sin.at(r), width / 2, cos, sin);
    }
    // The transposed rotation is the one by the opposite angle.
    const auto unrotated = [&](int64_t i) KINORA_INLINE {
      const Floats g = load(grad + i, width - i);
      return a.cos.data ? g * load(cos + i) - swapped(g) * load(sin + i) : g;
    };
    if (!a.weight) {
      for (int64_t i = 0; i < width; i += kLanes) store(to + i, unrotated(i), width - i);
      continue;
    }
    for (int64_t i = 0; i < width; i += kLanes) store(values + i, load(from + i, width - i));
    const float scale = moments(values, width, false, a.eps).scale;
    Floats along{};
    for (int64_t i = 0; i < width; i += kLanes) {
      const Floats n = load(values + i) * scale, g = unrotated(i), d = g * load(a.weight + i, width - i);
      along += d * n;
      add(of_weight + i, g * n);
      store(values + i, n);
      store(inner + i, d);
    }
    const float slope = sum(along) * share;
    for (int64_t i = 0; i < width; i += kLanes) {
      store(to + i, (load(inner + i) - load(values + i) * slope) * scale, width - i);
    }
  }
}

}  // namespace
}  // namespace kinora::ops::KINORA_SIMD
