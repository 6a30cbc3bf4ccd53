// Holds a method to the budget of its context.
#pragma once

#include <string_view>

#include "kinora/cache/method.h"

namespace kinora::cache {

/// Where not all that the method keeps fits into context.budget, it is told what to leave out, or to keep in the host's
/// memory. Throws UsageError that says the least that would do.
void fit_budget(Method& method, const Context& context, std::string_view name);

}  // namespace kinora::cache
