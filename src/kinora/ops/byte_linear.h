// Linear layers whose weight is a byte a number with a scale for each output row: half of bfloat16's memory. int8 by the
// largest magnitude of the row over 127, fp8 (e4m3: 4 bits of exponent, 3 of mantissa) by it over 448. On rows of Gaussian
// weights the result is off by 0.9 % with int8 and by 2.6 % with fp8 (norms of the error and of the result; bfloat16:
// 0.3 %), so int8 is the default.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace kinora::ops {

using at::Tensor;

enum class ByteFormat : uint8_t { int8, fp8 };

/// "int8" or "fp8". Throws UsageError that names both for another word.
ByteFormat byte_format_of(std::string_view name);
const char* name_of(ByteFormat format);

/// A weight [out, in]; a value stands for value * scale.
struct ByteRows {
  Tensor values;  ///< [out, in], int8 or float8_e4m3fn, contiguous
  Tensor scales;  ///< [out, 1], float32
  bool defined() const { return values.defined(); }
  int64_t bytes() const { return static_cast<int64_t>(values.nbytes() + scales.nbytes()); }
};

/// Each row by itself; one that holds an infinity or NaN comes back as NaN. Throws UsageError unless the weight is
/// floating, of two dims, with at least one number a row.
ByteRows to_byte_rows(const Tensor& weight, ByteFormat format);
/// Rows first .. first + count - 1 in a floating dtype.
Tensor from_byte_rows(const ByteRows& rows, int64_t first, int64_t count, at::ScalarType dtype);

/// y = x W^T + b with the weight as bytes: x [..., in] -> [..., out] in x's dtype. The operator
/// kinora::byte_linear; differentiable in x and the bias. Rows are made floating a few at a time, or in the product itself
/// for up to 8 rows of x in bfloat16. Throws UsageError where widths differ.
Tensor byte_linear(const Tensor& x, const ByteRows& weight, const std::optional<Tensor>& bias);

}  // namespace kinora::ops
