// A build without NCCL.
#include "kinora/base/error.h"
#include "kinora/comm/nccl.h"

namespace kinora::comm {

bool has_nccl() { return false; }

std::unique_ptr<Communicator> nccl(Communicator&, at::Device device, const ExchangeOptions&) {
  throw ResourceError(concat("this build of kinora has no NCCL, so ranks cannot exchange tensors of ", device.str()),
                      "build it with -DKINORA_CUDA=ON, or choose the device \"cpu\"");
}

}  // namespace kinora::comm
