#include "kinora/comm/nccl.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/comm/threads.h"

namespace kinora::comm {
namespace {

TEST(Nccl, ABuildWithoutItAndAMachineWithoutTheGpuSaySo) {
  const at::Device none(at::kCUDA, 100);
  run_ranks(2, [&](Communicator& control) {
    try {
      nccl(control, none, {});
      ADD_FAILURE() << "nothing was thrown";
    } catch (const ResourceError& error) {
      const std::string words = error.what();
      EXPECT_NE(words.find(has_nccl() ? "CUDA device 100" : "no NCCL"), std::string::npos) << words;
      EXPECT_FALSE(error.hint().empty());
    }
    control.barrier("still in step");
  });
}

TEST(Nccl, OtherDevicesAreRefused) {
  if (!has_nccl()) GTEST_SKIP() << "this build has no NCCL";
  run_ranks(2, [&](Communicator& control) { EXPECT_THROW(nccl(control, at::kCPU, {}), UsageError); });
}

}  // namespace
}  // namespace kinora::comm
