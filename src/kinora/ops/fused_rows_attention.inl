// Attention over few keys of narrow heads, and its backward, included by fused_rows.inl: one sample's head at a time,
// its keys in the first cache. Queries go four together, so that what is loaded of keys serves four of them; what is
// missing of four is zeros, which give zeros.

namespace kinora::ops::KINORA_SIMD {
namespace {

constexpr int kFour = 4;

struct Block {
  Floats rows[kFour];
};

/// Of four rows a [4, inner] (row stride a_stride) times a column of vectors b [inner] (row stride b_stride).
KINORA_INLINE inline Block product(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t inner) {
  Block y{};
  for (int64_t t = 0; t < inner; ++t) {
    const Floats at = load(b + t * b_stride);
    for (int r = 0; r < kFour; ++r) y.rows[r] += a[r * a_stride + t] * at;
  }
  return y;
}

/// to [count] += transposed a [4, count] times the four vectors b (row stride b_stride).
KINORA_INLINE inline void add_outer(float* to, int64_t stride, const float* a, int64_t a_stride, const float* b,
                                    int64_t b_stride, int64_t count) {
  Block rows;
  for (int r = 0; r < kFour; ++r) rows.rows[r] = load(b + r * b_stride);
  for (int64_t j = 0; j < count; ++j) {
    Floats y = load(to + j * stride);
    for (int r = 0; r < kFour; ++r) y += a[r * a_stride + j] * rows.rows[r];
    store(to + j * stride, y);
  }
}

/// One sample's head: keys and values as floats in whole vectors, upright and turned.
struct HeadMemory {
  static constexpr int64_t kSize = kMostBlockKeys * kMostBlockWidth, kBlockKeys = kFour * kMostBlockKeys,
                           kBlockWidth = kFour * kMostBlockWidth;
  alignas(64) float rows[kSize], turned_keys[kSize];          // rows: values forward, keys backward
  alignas(64) float turned_values[kSize], of_k[kSize], of_v[kSize];  // backward
  alignas(64) float query[kBlockWidth], grad[kBlockWidth], weights[kBlockKeys], of_scores[kBlockKeys];
};

KINORA_INLINE inline int64_t in_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// Floats [count, width] in rows of whole vectors, zeros behind; turned: a row of `tall` for each column.
template <typename T>
KINORA_INLINE inline void take_rows(const HeadTensor<const T>& from, int64_t b, int64_t h, int64_t first_row,
                                    int64_t count, int64_t width, float factor, float* to) {
  const int64_t wide = in_lanes(width);
  for (int64_t j = 0; j < count; ++j) {
    const T* const row = from.at(b, h, first_row + j);
    for (int64_t i = 0; i < width; i += kLanes) store(to + j * wide + i, load(row + i, width - i) * factor);
  }
}
KINORA_INLINE inline void turn(const float* rows, int64_t count, int64_t width, float* to) {
  const int64_t wide = in_lanes(width), tall = in_lanes(count);
  for (int64_t i = 0; i < width; ++i) {
    float* const column = to + i * tall;
    store(column + tall - kLanes, Floats{});
    for (int64_t j = 0; j < count; ++j) column[j] = rows[j * wide + i];
  }
}

/// Four queries of which `count` are there.
template <typename T>
KINORA_INLINE inline void take_block(const HeadTensor<const T>& from, int64_t b, int64_t h, int64_t row, int64_t count,
                                     int64_t width, float factor, float* to) {
  take_rows(from, b, h, row, count, width, factor, to);
  for (int64_t r = count; r < kFour; ++r) {
    for (int64_t i = 0; i < width; i += kLanes) store(to + r * in_lanes(width) + i, Floats{});
  }
}

/// Softmax of four queries' scores.
KINORA_INLINE inline void weigh(const float* query, const float* turned_keys, int64_t keys, int64_t width,
                                float* weights) {
  const int64_t wide = in_lanes(width), tall = in_lanes(keys);
  float highest[kFour];
  for (int r = 0; r < kFour; ++r) highest[r] = -__builtin_inff();
  for (int64_t j = 0; j < keys; j += kLanes) {
    const Block s = product(query, wide, turned_keys + j, tall, width);
    for (int r = 0; r < kFour; ++r) store(weights + r * tall + j, s.rows[r]);
  }
  for (int r = 0; r < kFour; ++r) {
    float* const row = weights + r * tall;
    for (int64_t j = 0; j < keys; ++j) highest[r] = row[j] <= highest[r] ? highest[r] : row[j];
    Floats total{};
    for (int64_t j = 0; j < keys; j += kLanes) {
      // Whatever `highest` is, a score that is NaN makes its weight, the sum and so the row NaN.
      const Floats w = first(exp(load(row + j) - highest[r]), keys - j);
      store(row + j, w);
      total += w;
    }
    const float inverse = 1.0F / sum(total);
    for (int64_t j = 0; j < keys; j += kLanes) store(row + j, load(row + j) * inverse);
  }
}

template <typename T>
KINORA_INLINE inline void give_rows(const HeadTensor<T>& to, int64_t b, int64_t h, int64_t first_row, int64_t count,
                                    int64_t width, const float* from, float factor) {
  const int64_t wide = in_lanes(width);
  for (int64_t j = 0; j < count; ++j) {
    T* const row = to.at(b, h, first_row + j);
    for (int64_t i = 0; i < width; i += kLanes) store(row + i, load(from + j * wide + i) * factor, width - i);
  }
}

template <typename T>
void block_attention(const BlockAttention<T>& a, int64_t begin, int64_t end) {
  HeadMemory m;
  const int64_t width = a.width, wide = in_lanes(width);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t b = unit / a.heads, h = unit % a.heads;
    const int64_t keys = a.key_counts ? a.key_counts[b] : a.keys, from = a.key_begins ? a.key_begins[b] : 0;
    const int64_t tall = in_lanes(keys);
    take_rows(a.k, b, h, from, keys, width, 1.0F, m.rows);
    turn(m.rows, keys, width, m.turned_keys);
    take_rows(a.v, b, h, from, keys, width, 1.0F, m.rows);
    for (int64_t n = 0; n < a.queries; n += kFour) {
      const int64_t count = a.queries - n < kFour ? a.queries - n : kFour;
      take_block(a.q, b, h, n, count, width, a.scale, m.query);
      weigh(m.query, m.turned_keys, keys, width, m.weights);
      for (int64_t i = 0; i < width; i += kLanes) {
        const Block y = product(m.weights, tall, m.rows + i, wide, keys);
        for (int r = 0; r < kFour; ++r) store(m.query + r * wide + i, y.rows[r]);
      }
      give_rows(a.out, b, h, n, count, width, m.query, 1.0F);
    }
  }
}

/// With weights p and g the gradient of a row: d = g v^T, of scores p (d - sum(p d)); from there on products.
template <typename T>
void block_attention_backward(const BlockAttention<T>& a, int64_t begin, int64_t end) {
  HeadMemory m;
  const int64_t width = a.width, wide = in_lanes(width);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t b = unit / a.heads, h = unit % a.heads;
    const int64_t keys = a.key_counts ? a.key_counts[b] : a.keys, from = a.key_begins ? a.key_begins[b] : 0;
    const int64_t tall = in_lanes(keys);
    take_rows(a.v, b, h, from, keys, width, 1.0F, m.rows);
    turn(m.rows, keys, width, m.turned_values);
    take_rows(a.k, b, h, from, keys, width, 1.0F, m.rows);
    turn(m.rows, keys, width, m.turned_keys);
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t i = 0; i < width; i += kLanes) {
        store(m.of_k + j * wide + i, Floats{});
        store(m.of_v + j * wide + i, Floats{});
      }
    }
    for (int64_t n = 0; n < a.queries; n += kFour) {
      const int64_t count = a.queries - n < kFour ? a.queries - n : kFour;
      take_block(a.q, b, h, n, count, width, a.scale, m.query);
      take_block(a.grad, b, h, n, count, width, 1.0F, m.grad);
      weigh(m.query, m.turned_keys, keys, width, m.weights);
      Block along{};
      for (int64_t j = 0; j < keys; j += kLanes) {
        const Block d = product(m.grad, wide, m.turned_values + j, tall, width);
        for (int r = 0; r < kFour; ++r) {
          store(m.of_scores + r * tall + j, d.rows[r]);
          along.rows[r] += d.rows[r] * load(m.weights + r * tall + j);
        }
      }
      for (int r = 0; r < kFour; ++r) {
        const float mean = sum(along.rows[r]);
        float *const d = m.of_scores + r * tall, *const p = m.weights + r * tall;
        for (int64_t j = 0; j < keys; j += kLanes) store(d + j, load(p + j) * (load(d + j) - mean));
      }
      for (int64_t i = 0; i < width; i += kLanes) {
        // The queries hold the scale already.
        add_outer(m.of_k + i, wide, m.of_scores, tall, m.query + i, wide, keys);
        add_outer(m.of_v + i, wide, m.weights, tall, m.grad + i, wide, keys);
      }
      for (int64_t i = 0; i < width; i += kLanes) {
        const Block y = product(m.of_scores, tall, m.rows + i, wide, keys);
        for (int r = 0; r < kFour; ++r) store(m.query + r * wide + i, y.rows[r]);
      }
      give_rows(a.of_q, b, h, n, count, width, m.query, a.scale);
    }
    give_rows(a.of_k, b, h, from, keys, width, m.of_k, 1.0F);
    give_rows(a.of_v, b, h, from, keys, width, m.of_v, 1.0F);
  }
}

}  // namespace
}  // namespace kinora::ops::KINORA_SIMD
