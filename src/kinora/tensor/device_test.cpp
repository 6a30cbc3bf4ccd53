#include "kinora/tensor/device.h"

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <gtest/gtest.h>

#include "kinora/base/error.h"

namespace kinora {
namespace {

TEST(Device, TheProcessorIsAlwaysThere) { EXPECT_TRUE(parse_device("cpu").is_cpu()); }

TEST(Device, NamesThatAreNoneAreRefused) {
  for (const char* name : {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "cuda:1x", "cuda:99999999999"})
    EXPECT_THROW(parse_device(name), UsageError) << name;
}

TEST(Device, ADeviceThatIsNotThereIsAResourceError) {
  EXPECT_THROW(parse_device("cuda:4096"), ResourceError);
  if (!at::detail::getCUDAHooks().hasCUDART()) {
    EXPECT_THROW(parse_device("cuda"), ResourceError);
  }
}

}  // namespace
}  // namespace kinora
