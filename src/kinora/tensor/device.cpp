#include "kinora/tensor/device.h"

#include <ATen/detail/CUDAHooksInterface.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora {

c10::Device parse_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  int index = 0;
  const std::string_view number =
      std::string_view(name).substr(std::min(name.size(), std::string_view("cuda:").size()));
  const auto [end, failed] = std::from_chars(number.data(), number.data() + number.size(), index);
  const bool is_numbered = name.starts_with("cuda:") && failed == std::errc() && end == number.data() + number.size();
  if (name != "cuda" && (!is_numbered || index < 0))
    throw UsageError(concat("the device \"", printable(name), "\" is not known"), "choose cpu, cuda or cuda:N");
  const auto& cuda = at::detail::getCUDAHooks();
  if (!cuda.hasCUDART())
    throw ResourceError("this build of Kinora has no CUDA",
                        "build it with -DKINORA_CUDA=ON, or choose the device \"cpu\"");
  const int count = cuda.deviceCount();
  if (index >= count) {
    throw ResourceError(concat("there is no CUDA device ", index, "; this machine has ", count),
                        count > 0 ? concat("choose cuda:0 to cuda:", count - 1) : "choose the device \"cpu\"");
  }
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

}  // namespace kinora
