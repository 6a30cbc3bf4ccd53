// What the fused operators' forward (fused_cpu.cpp) and backward (fused_backward.cpp) share: the kernels for this
// processor, and tensors as the rows that kernels take.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "kinora/ops/fused_rows.h"

namespace kinora::ops::cpu {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

constexpr int64_t kGrain = 32768;  // elements below which a second thread does not pay

inline bool has_kernel(const Tensor& x) {
  return (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && x.numel() > 0 && x.dim() >= 1;
}

const AllRowKernels& all_kernels();

template <typename T>
const RowKernels<T>& kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return all_kernels().float32;
  } else {
    return all_kernels().bfloat16;
  }
}

template <typename T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <typename T>
const T* data(const MaybeTensor& t) {
  return t ? data<T>(*t) : nullptr;
}
template <typename T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

inline int64_t up_to_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// Calls f with a value of the element type.
template <typename F>
auto for_dtype(at::ScalarType dtype, const F& f) {
  return dtype == at::kFloat ? f(float{}) : f(BFloat16{});
}

inline bool has_rows(const Tensor& t, const Tensor& x, int64_t width) {
  return t.dim() >= 1 && t.dim() <= x.dim() && x.dim() <= kMostDims && t.size(-1) == width &&
         (width == 1 || t.stride(-1) == 1);
}
inline bool is_rows(const MaybeTensor& t, const Tensor& x, int64_t width) {
  return !t || (t->scalar_type() == x.scalar_type() && has_rows(*t, x, width));
}

template <typename T>
Rows<T> rows_of(const MaybeTensor& t, const Tensor& x, int64_t width) {
  if (!t) return {};
  auto shape = x.sizes().vec();
  shape.back() = width;
  const Tensor wide = t->expand(shape);
  Rows<T> rows{.data = data<T>(*t)};
  for (int64_t d = 0; d < x.dim() - 1; ++d) {
    if (wide.size(d) == 1) continue;
    // Dims that one stride goes through become one: finding a row takes a division for each but the first.
    const bool goes_on = rows.dims > 0 && rows.strides[rows.dims - 1] == wide.stride(d) * wide.size(d);
    if (!goes_on) rows.sizes[rows.dims++] = 1;
    rows.sizes[rows.dims - 1] *= wide.size(d);
    rows.strides[rows.dims - 1] = wide.stride(d);
  }
  return rows;
}

/// work(scratch, begin, end) over rows of `row_size` numbers.
template <typename Work>
void for_rows(int64_t rows, int64_t row_size, int64_t scratch_size, const Work& work) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / row_size), [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(scratch_size));
    work(scratch.data(), begin, end);
  });
}

}  // namespace kinora::ops::cpu
