#include "kinora/ops/byte_linear.h"

#include <algorithm>
#include <limits>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/ops/int8_rows.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

constexpr double kMostFp8 = 448;
constexpr float kLeastRow = 1e-36F;  // below it the inverse overflows; as ops::to_int8_rows
constexpr int64_t kFewRows = 8;      // of x, for which the product is bound by reading the weight
constexpr int64_t kTileBytes = int64_t{1} << 20;

ByteRows to_fp8_rows(const Tensor& weight) {
  const Tensor wide = weight.to(at::kFloat), most = wide.abs().amax(-1, true);
  const Tensor is_finite = at::isfinite(most), has_value = is_finite.logical_and(most >= kLeastRow);
  const Tensor steps = at::where(has_value, wide * (kMostFp8 / most), 0).clamp(-kMostFp8, kMostFp8);
  const Tensor scales =
      at::where(is_finite, at::where(has_value, most / kMostFp8, 0), std::numeric_limits<float>::quiet_NaN());
  return {steps.to(at::kFloat8_e4m3fn).contiguous(), scales.to(at::kFloat).contiguous()};
}

/// ATen converts fp8 one number at a time through its bits, ten times slower than a table of all 256.
Tensor fp8_on_cpu(const Tensor& values, const Tensor& scales) {
  const Tensor all = at::arange(256, at::kInt).to(at::kByte).view(at::kFloat8_e4m3fn).to(at::kFloat);
  const float* const table = all.const_data_ptr<float>();
  Tensor out = at::empty(values.sizes(), at::kFloat);
  const auto* from = static_cast<const uint8_t*>(values.const_data_ptr());
  const float* scale = scales.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  for (int64_t r = 0; r < values.size(0); ++r) {
    for (int64_t i = 0; i < values.size(1); ++i) *to++ = table[*from++] * scale[r];
  }
  return out;
}

Tensor floating(const Tensor& values, const Tensor& scales, at::ScalarType dtype) {
  if (values.scalar_type() == at::kChar) return from_int8_rows({values, scales}, dtype);
  if (values.is_cpu()) return fp8_on_cpu(values, scales).to(dtype);
  return (values.to(at::kFloat) * scales).to(dtype);
}

Tensor linear_reference(const Tensor& x, const Tensor& values, const Tensor& scales, const MaybeTensor& bias) {
  return at::linear(x, floating(values, scales, x.scalar_type()), bias);
}

bool is_aligned(const Tensor& t, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % bytes == 0;  // NOLINT: an address
}

/// ATen's product for few rows asks for no shape, and reads 16 numbers at a time from places aligned to as many.
bool suits_few_rows(const Tensor& rows, const Tensor& values) {
  return values.scalar_type() == at::kChar && rows.scalar_type() == at::kBFloat16 && rows.size(0) <= kFewRows &&
         values.size(1) % 16 == 0 && rows.is_contiguous() && is_aligned(rows, 32) && is_aligned(values, 16);
}

Tensor linear_cpu(const Tensor& x, const Tensor& values, const Tensor& scales, const MaybeTensor& bias) {
  const Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
  const int64_t out_width = values.size(0);
  auto shape = x.sizes().vec();
  shape.back() = out_width;
  if (suits_few_rows(rows, values)) {
    const Tensor y = at::_weight_int8pack_mm(rows, values, scales.view(-1).to(at::kBFloat16));
    return (bias ? y + *bias : y).view(shape);
  }
  // A tile of the weight is made floating, multiplied and forgotten while it is in the processor's cache.
  const auto row_bytes = values.size(1) * static_cast<int64_t>(x.element_size());
  const int64_t tile = std::max<int64_t>(64, kTileBytes / std::max<int64_t>(1, row_bytes) / 64 * 64);
  Tensor y = at::empty({rows.size(0), out_width}, x.options());
  for (int64_t first = 0; first < out_width; first += tile) {
    const int64_t n = std::min(tile, out_width - first);
    const Tensor weight = floating(values.narrow(0, first, n), scales.narrow(0, first, n), x.scalar_type());
    y.narrow(1, first, n).copy_(at::linear(rows, weight, bias ? MaybeTensor(bias->narrow(0, first, n)) : bias));
  }
  return y.view(shape);
}

Tensor linear_meta(const Tensor& x, const Tensor& values, const Tensor&, const MaybeTensor&) {
  auto shape = x.sizes().vec();
  shape.back() = values.size(0);
  return x.new_empty(shape);
}

const Operator<&linear_reference, &linear_meta> byte_linear_op(
    "kinora::byte_linear(Tensor x, Tensor values, Tensor scales, Tensor? bias) -> Tensor", &linear_cpu);

void check_matrix(const Tensor& weight) {
  if (weight.is_floating_point() && weight.dim() == 2 && weight.size(1) > 0) return;
  throw UsageError(
      concat("bytes are for matrices of floating numbers, not for ", weight.scalar_type(), " ", weight.sizes()));
}

}  // namespace

ByteFormat byte_format_of(std::string_view name) {
  if (name == "int8") return ByteFormat::int8;
  if (name == "fp8") return ByteFormat::fp8;
  throw UsageError(concat("there is no format \"", printable(name, 40), "\" of weights"), "int8 and fp8 are known");
}

const char* name_of(ByteFormat format) { return format == ByteFormat::fp8 ? "fp8" : "int8"; }

ByteRows to_byte_rows(const Tensor& weight, ByteFormat format) {
  check_matrix(weight);
  if (format == ByteFormat::fp8) return to_fp8_rows(weight);
  const Int8Rows rows = to_int8_rows(weight);
  return {rows.values, rows.scales};
}

Tensor from_byte_rows(const ByteRows& rows, int64_t first, int64_t count, at::ScalarType dtype) {
  return floating(rows.values.narrow(0, first, count), rows.scales.narrow(0, first, count), dtype);
}

Tensor byte_linear(const Tensor& x, const ByteRows& weight, const std::optional<Tensor>& bias) {
  if (x.dim() < 1 || x.size(-1) != weight.values.size(1)) {
    throw UsageError(concat("byte_linear: x ", x.sizes(), " and a weight ", weight.values.sizes()),
                     "the last dims are equal");
  }
  return byte_linear_op(x, weight.values, weight.scales, bias);
}

}  // namespace kinora::ops
