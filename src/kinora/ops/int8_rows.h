// Numbers in a byte each, with a scale for each row (last dim): a quarter of float32's memory for what is kept for long.
#pragma once

#include <ATen/ATen.h>

namespace kinora::ops {

using at::Tensor;

struct Int8Rows {
  Tensor values;  ///< int8, -127 .. 127, contiguous
  Tensor scales;  ///< float32 [..., 1]: a value stands for value * scale
};

/// Each row in 255 equal steps from minus its largest magnitude m to m, to the nearest (halves to even): what comes back is
/// off by at most m / 254, but for float32's own rounding (1e-4 of that). A row with m < 1e-36 counts as zeros; one that
/// holds an infinity or NaN comes back as NaN, so that overflow is not hidden. A row's bits depend on that row alone.
/// Throws UsageError unless x is floating and has rows of at least one number.
Int8Rows to_int8_rows(const Tensor& x);

/// In a floating dtype, which rounds once more; contiguous.
Tensor from_int8_rows(const Int8Rows& rows, at::ScalarType dtype);

}  // namespace kinora::ops
