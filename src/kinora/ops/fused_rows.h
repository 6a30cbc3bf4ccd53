// The inner loops of fused_cpu.cpp, compiled once for each kind of processor (fused_rows_*.cpp) from fused_rows.inl.
// Plain types only: whatever those files shared with others could be linked into code for an older processor.
#pragma once

#include <cstdint>

#define KINORA_INLINE __attribute__((always_inline))

namespace kinora::ops {

/// The bits of c10::BFloat16.
struct BFloat16 {
  uint16_t bits;
};

constexpr int64_t kLanes = 16;
constexpr int64_t kMostDims = 6;

/// Where the rows (last dim, contiguous) of a tensor begin that broadcasts against a shape. data null: not given.
template <typename T>
struct Rows {
  const T* data = nullptr;
  int64_t dims = 0;
  int64_t sizes[kMostDims] = {}, strides[kMostDims] = {};

  KINORA_INLINE const T* at(int64_t row) const {
    int64_t offset = 0;
    for (int64_t d = dims - 1; d > 0; --d) {
      offset += row % sizes[d] * strides[d];
      row /= sizes[d];
    }
    return data + offset + row * strides[0];
  }
};

/// scratch: floats for one row each, in whole vectors. Results are contiguous rows.
template <typename T>
struct LayerNormRows {
  Rows<T> x, scale, shift;
  const T *weight, *bias;
  T* out;
  int64_t width;
  float eps;
};

template <typename T>
struct ResidualRows {
  const T* x;
  Rows<T> y, gate;
  T* out;
  int64_t width;
};

/// Table: the type of cosines and sines, rows of width / 2.
template <typename T, typename Table>
struct HeadRows {
  Rows<T> x;
  const T *weight, *bias;
  Rows<Table> cos, sin;
  T* out;
  int64_t width;
  float eps;
};

/// Strides of samples, heads, rows.
template <typename T>
struct AttentionRows {
  const T *q, *k, *v;
  T* out;
  int64_t q_strides[3], k_strides[3], v_strides[3], out_strides[3];
  int64_t heads, queries, keys, width;
  float scale;
};

/// Backward: gradients of x are dense rows; sums are floats in whole vectors that the rows are added to in their order.
template <typename T>
struct LayerNormGradRows {
  Rows<T> x, scale, grad;
  T* out;
  int64_t width;
  float eps;
};

template <typename T>
struct ResidualGradRows {
  Rows<T> y, gate, grad;
  T* out;
  int64_t width;
};

/// out: where the gradient's rows begin, in the order of x's memory. weight null: no norm. cos null: no rotation.
template <typename T, typename Table>
struct HeadGradRows {
  Rows<T> x, grad;
  const T* weight;
  Rows<Table> cos, sin;
  Rows<T> out;
  int64_t width;
  float eps;
};

/// Tensors of samples, heads and rows of `width` <= kMostBlockWidth. Sample b has key_counts[b] <= kMostBlockKeys keys,
/// its first in row key_begins[b] of those at its stride; both null: keys of them, from row 0.
constexpr int64_t kMostBlockKeys = 64, kMostBlockWidth = 64;

template <typename T>
struct HeadTensor {
  T* data;
  int64_t strides[3];  // samples, heads, rows

  KINORA_INLINE T* at(int64_t sample, int64_t head, int64_t row) const {
    return data + sample * strides[0] + head * strides[1] + row * strides[2];
  }
};

template <typename T>
struct BlockAttention {
  HeadTensor<const T> q, k, v;
  HeadTensor<T> out;
  const int64_t *key_begins, *key_counts;
  int64_t heads, queries, keys, width;
  float scale;
  HeadTensor<const T> grad;  // of out; this and what follows for the backward alone
  HeadTensor<T> of_q, of_k, of_v;
};

/// Rows in a byte each, with a scale. Below the least, a row's largest magnitude has no inverse, and counts as zero.
constexpr float kLeastInt8Row = 1e-36F;

template <typename T>
struct Int8FromRows {
  Rows<T> x;
  int8_t* values;
  float* scales;
  int64_t width;
};

template <typename T>
struct Int8ToRows {
  const int8_t* values;
  const float* scales;
  T* out;
  int64_t width;
};

template <typename T>
struct RowKernels {
  void (*layer_norm)(const LayerNormRows<T>&, float* scratch, int64_t begin, int64_t end);  // 1 row of scratch
  void (*gelu_tanh)(const T* from, T* to, int64_t count);
  void (*add_residual)(const ResidualRows<T>&, int64_t begin, int64_t end);
  void (*norm_rotary)(const HeadRows<T, T>&, float* scratch, int64_t begin, int64_t end);  // 3 rows
  void (*norm_rotary_float)(const HeadRows<T, float>&, float* scratch, int64_t begin, int64_t end);
  /// Units are samples times heads.
  void (*short_attention)(const AttentionRows<T>&, float* scratch, int64_t begin, int64_t end);  // 2 keys + 1 rows
  void (*layer_norm_backward)(const LayerNormGradRows<T>&, float* scratch, float* of_scale, float* of_shift,
                              int64_t begin, int64_t end);  // 2 rows
  void (*gelu_tanh_backward)(const T* from, const T* grad, T* to, int64_t count);
  void (*residual_backward)(const ResidualGradRows<T>&, float* of_gate, int64_t begin, int64_t end);
  void (*norm_rotary_backward)(const HeadGradRows<T, T>&, float* scratch, float* of_weight, int64_t begin,
                               int64_t end);  // 4 rows
  void (*norm_rotary_backward_float)(const HeadGradRows<T, float>&, float* scratch, float* of_weight, int64_t begin,
                                     int64_t end);
  /// Units are samples times heads.
  void (*block_attention)(const BlockAttention<T>&, int64_t begin, int64_t end);
  void (*block_attention_backward)(const BlockAttention<T>&, int64_t begin, int64_t end);
  void (*to_int8)(const Int8FromRows<T>&, int64_t begin, int64_t end);
  void (*from_int8)(const Int8ToRows<T>&, int64_t begin, int64_t end);
};

struct AllRowKernels {
  RowKernels<float> float32;
  RowKernels<BFloat16> bfloat16;
};

namespace baseline {
extern const AllRowKernels kRowKernels;
}
namespace avx2 {
extern const AllRowKernels kRowKernels;
}
namespace avx512 {
extern const AllRowKernels kRowKernels;
}

}  // namespace kinora::ops
