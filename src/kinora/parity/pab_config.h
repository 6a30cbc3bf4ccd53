// VideoSys' PABConfig, as the cases hold it, as settings of the cache.
#pragma once

#include "kinora/base/json.h"
#include "kinora/cache/pab.h"

namespace kinora::parity {

/// Without wrap. Throws nlohmann's errors for a config that is not one.
cache::PabSettings pab_settings(const Json& config);

}  // namespace kinora::parity
