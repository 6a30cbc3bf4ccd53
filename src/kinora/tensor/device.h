// Names of devices.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace kinora {

/// "cpu", "cuda" (the first) or "cuda:N". Throws UsageError for another name, ResourceError for a device that this build
/// or this machine does not have.
c10::Device parse_device(const std::string& name);

}  // namespace kinora
