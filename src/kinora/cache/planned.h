// A cache that keeps to a plan of calls: what --cache planned is, and what its calibration measures with.
#pragma once

#include <memory>
#include <vector>

#include "kinora/cache/extrapolation.h"
#include "kinora/cache/method.h"

namespace kinora::cache {

std::unique_ptr<Method> follow_plan(std::vector<PlannedCall> plan);

}  // namespace kinora::cache
