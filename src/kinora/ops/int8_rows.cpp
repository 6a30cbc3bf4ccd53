#include "kinora/ops/int8_rows.h"

#include <limits>

#include "kinora/base/error.h"
#include "kinora/ops/fused_host.h"

namespace kinora::ops {
namespace {

using cpu::data, cpu::mutable_data, cpu::kernels;

constexpr float kMost = 127;

Int8Rows to_int8_reference(const Tensor& x) {
  const Tensor wide = x.to(at::kFloat), most = wide.abs().amax(-1, true);
  const Tensor is_finite = at::isfinite(most), has_value = is_finite.logical_and(most >= kLeastInt8Row);
  const Tensor inverse = at::where(has_value, kMost / most, 0);
  const Tensor scales =
      at::where(is_finite, at::where(has_value, most / kMost, 0), std::numeric_limits<float>::quiet_NaN());
  const Tensor steps = at::where(has_value, (wide * inverse).round(), 0);
  return {steps.to(at::kChar).contiguous(), scales.to(at::kFloat).contiguous()};
}

template <typename T>
Int8Rows to_int8_fused(const Tensor& x) {
  auto one = x.sizes().vec();
  const int64_t width = std::exchange(one.back(), 1);
  Int8Rows rows{at::empty(x.sizes(), x.options().dtype(at::kChar)), at::empty(one, x.options().dtype(at::kFloat))};
  const Int8FromRows<T> work{.x = cpu::rows_of<T>(x, x, width),
                             .values = mutable_data<int8_t>(rows.values),
                             .scales = mutable_data<float>(rows.scales),
                             .width = width};
  cpu::for_rows(x.numel() / width, width, 0,
                [&](float*, int64_t begin, int64_t end) { kernels<T>().to_int8(work, begin, end); });
  return rows;
}

template <typename T>
Tensor from_int8_fused(const Int8Rows& rows, at::ScalarType dtype) {
  Tensor out = at::empty(rows.values.sizes(), rows.values.options().dtype(dtype));
  const int64_t width = out.size(-1);
  const Int8ToRows<T> work{.values = data<int8_t>(rows.values),
                           .scales = data<float>(rows.scales),
                           .out = mutable_data<T>(out),
                           .width = width};
  cpu::for_rows(out.numel() / width, width, 0,
                [&](float*, int64_t begin, int64_t end) { kernels<T>().from_int8(work, begin, end); });
  return out;
}

}  // namespace

Int8Rows to_int8_rows(const Tensor& x) {
  if (!x.is_floating_point() || x.dim() < 1 || x.size(-1) < 1)
    throw UsageError(concat("int8 is for rows of floating numbers, not for ", x.sizes(), " of ", x.scalar_type()));
  if (!x.is_cpu() || !cpu::has_kernel(x) || !cpu::is_rows(x, x, x.size(-1))) return to_int8_reference(x);
  return cpu::for_dtype(x.scalar_type(), [&](auto type) { return to_int8_fused<decltype(type)>(x); });
}

Tensor from_int8_rows(const Int8Rows& rows, at::ScalarType dtype) {
  const bool has_kernel = rows.values.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16) &&
                          rows.values.is_contiguous() && rows.scales.is_contiguous() && rows.values.numel() > 0;
  if (!has_kernel) return (rows.values.to(at::kFloat) * rows.scales).to(dtype);
  return cpu::for_dtype(dtype, [&](auto type) { return from_int8_fused<decltype(type)>(rows, dtype); });
}

}  // namespace kinora::ops
