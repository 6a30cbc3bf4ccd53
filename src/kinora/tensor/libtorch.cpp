#include "kinora/tensor/libtorch.h"

#include <torch/headeronly/version.h>

#include <cstdint>

#include "kinora/base/error.h"

// Exported by libtorch_cpu for extensions that outlive a version: a plain C call, safe whatever the versions. Declared
// here, because its header brings much else.
extern "C" uint64_t aoti_torch_abi_version();

namespace kinora {

std::string built_libtorch() { return TORCH_VERSION; }

std::string running_libtorch() {
  // [major][minor][patch][five bytes of tag]
  const uint64_t version = aoti_torch_abi_version();
  return concat(version >> 56, ".", version >> 48 & 0xff, ".", version >> 40 & 0xff);
}

void check_libtorch(const std::string& built, const std::string& running) {
  if (built == running) return;
  throw ResourceError(concat("this build of Kinora is for LibTorch ", built, ", and LibTorch ", running, " is loaded"),
                      concat("put LibTorch ", built, " first on the library path, or build Kinora anew"));
}

}  // namespace kinora
