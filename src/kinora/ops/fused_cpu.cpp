#include "kinora/ops/fused_cpu.h"

#include <cmath>
#include <type_traits>

#include "kinora/ops/fused_host.h"

namespace kinora::ops::cpu {

const AllRowKernels& all_kernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    return avx512::kRowKernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kRowKernels;
#endif
  return baseline::kRowKernels;
}

namespace {

template <typename T, typename Table>
Tensor norm_rotary_as(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                      const MaybeTensor& cos, const MaybeTensor& sin) {
  Tensor out = at::empty(x.sizes(), x.options());
  const int64_t width = x.size(-1);
  const HeadRows<T, Table> rows{.x = rows_of<T>(x, x, width),
                                .weight = data<T>(weight),
                                .bias = data<T>(bias),
                                .cos = rows_of<Table>(cos, x, width / 2),
                                .sin = rows_of<Table>(sin, x, width / 2),
                                .out = mutable_data<T>(out),
                                .width = width,
                                .eps = static_cast<float>(eps)};
  for_rows(x.numel() / width, width, 3 * up_to_lanes(width), [&](float* scratch, int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, Table>) {
      kernels<T>().norm_rotary(rows, scratch, begin, end);
    } else {
      kernels<T>().norm_rotary_float(rows, scratch, begin, end);
    }
  });
  return out;
}

}  // namespace

MaybeTensor layer_norm(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, const MaybeTensor& scale,
                       const MaybeTensor& shift, double eps) {
  if (!has_kernel(x) || !is_rows(x, x, x.size(-1))) return std::nullopt;
  for (const MaybeTensor* t : {&weight, &bias, &scale, &shift}) {
    if (!is_rows(*t, x, x.size(-1))) return std::nullopt;
  }
  Tensor out = at::empty_like(x, at::MemoryFormat::Contiguous);
  const int64_t width = x.size(-1);
  for_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const LayerNormRows<T> rows{.x = rows_of<T>(x, x, width),
                                .scale = rows_of<T>(scale, x, width),
                                .shift = rows_of<T>(shift, x, width),
                                .weight = data<T>(weight),
                                .bias = data<T>(bias),
                                .out = mutable_data<T>(out),
                                .width = width,
                                .eps = static_cast<float>(eps)};
    for_rows(x.numel() / width, width, up_to_lanes(width),
             [&](float* scratch, int64_t begin, int64_t end) { kernels<T>().layer_norm(rows, scratch, begin, end); });
  });
  return out;
}

MaybeTensor gelu_tanh(const Tensor& x) {
  if (!has_kernel(x) || !x.is_non_overlapping_and_dense()) return std::nullopt;
  Tensor out = at::empty_like(x);
  for_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    for_rows(x.numel(), 1, 0, [&](float*, int64_t begin, int64_t end) {
      kernels<T>().gelu_tanh(data<T>(x) + begin, mutable_data<T>(out) + begin, end - begin);
    });
  });
  return out;
}

MaybeTensor add_residual(const Tensor& x, const Tensor& y, const MaybeTensor& gate) {
  if (!has_kernel(x) || !x.is_contiguous() || !is_rows(y, x, x.size(-1)) || !is_rows(gate, x, x.size(-1))) {
    return std::nullopt;
  }
  Tensor out = at::empty_like(x, at::MemoryFormat::Contiguous);
  const int64_t width = x.size(-1);
  for_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const ResidualRows<T> rows{.x = data<T>(x),
                               .y = rows_of<T>(y, x, width),
                               .gate = rows_of<T>(gate, x, width),
                               .out = mutable_data<T>(out),
                               .width = width};
    for_rows(x.numel() / width, width, 0,
             [&](float*, int64_t begin, int64_t end) { kernels<T>().add_residual(rows, begin, end); });
  });
  return out;
}

MaybeTensor qk_norm_rotary(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias, double eps,
                           const MaybeTensor& cos, const MaybeTensor& sin) {
  const int64_t width = x.size(-1);
  if (!has_kernel(x) || !is_rows(x, x, width) || !is_rows(weight, x, width) || !is_rows(bias, x, width)) {
    return std::nullopt;
  }
  const auto table = cos ? cos->scalar_type() : x.scalar_type();
  if (table != at::kFloat && table != x.scalar_type()) return std::nullopt;
  if (cos) {
    if (width % 2 != 0 || sin->scalar_type() != table) return std::nullopt;
    // The kernel takes new sines only where it takes new cosines.
    if (sin->sizes() != cos->sizes() || sin->strides() != cos->strides()) return std::nullopt;
    if (!has_rows(*cos, x, width / 2) || !has_rows(*sin, x, width / 2)) return std::nullopt;
  }
  return for_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    return table == at::kFloat ? norm_rotary_as<T, float>(x, weight, bias, eps, cos, sin)
                               : norm_rotary_as<T, T>(x, weight, bias, eps, cos, sin);
  });
}

MaybeTensor short_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale) {
  const auto fits = [&](const Tensor& t) {
    return t.dim() == 4 && t.scalar_type() == q.scalar_type() && t.size(0) == q.size(0) && t.size(1) == q.size(1) &&
           t.size(3) == q.size(3) && t.stride(3) == 1;
  };
  if (!has_kernel(q) || !fits(q) || !fits(k) || !fits(v)) return std::nullopt;
  const int64_t keys = k.size(2), queries = q.size(2), width = q.size(3);
  if (keys < 1 || keys > kShortKeys || v.size(2) != keys) return std::nullopt;
  Tensor out = at::empty_like(q);
  if (out.stride(3) != 1) return std::nullopt;
  const double by = scale.value_or(1.0 / std::sqrt(static_cast<double>(width)));
  for_dtype(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    AttentionRows<T> rows{.q = data<T>(q),
                          .k = data<T>(k),
                          .v = data<T>(v),
                          .out = mutable_data<T>(out),
                          .q_strides = {},
                          .k_strides = {},
                          .v_strides = {},
                          .out_strides = {},
                          .heads = q.size(1),
                          .queries = queries,
                          .keys = keys,
                          .width = width,
                          .scale = static_cast<float>(by)};
    for (int d = 0; d < 3; ++d) {
      rows.q_strides[d] = q.stride(d), rows.k_strides[d] = k.stride(d);
      rows.v_strides[d] = v.stride(d), rows.out_strides[d] = out.stride(d);
    }
    for_rows(
        q.size(0) * q.size(1), queries * keys * width, (2 * keys + 1) * up_to_lanes(width),
        [&](float* scratch, int64_t begin, int64_t end) { kernels<T>().short_attention(rows, scratch, begin, end); });
  });
  return out;
}

}  // namespace kinora::ops::cpu
