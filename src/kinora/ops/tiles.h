// Processors that multiply tiles (AMX).
#pragma once

#include <c10/core/ScalarType.h>

namespace kinora::ops {

/// Whether LibTorch's kernels for this dtype multiply tiles on this processor: then they lay out anew what they read and
/// write, and choose kernels by the number of rows.
bool multiplies_tiles(at::ScalarType dtype);

}  // namespace kinora::ops
