#include "kinora/ops/tiles.h"

#include <ATen/native/CPUBlas.h>

namespace kinora::ops {

bool multiplies_tiles(at::ScalarType dtype) { return at::native::cpublas::could_pack(dtype); }

}  // namespace kinora::ops
