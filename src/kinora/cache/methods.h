// What makes each cache; registry.cpp lists them by name. Errors as MethodRow::make.
#pragma once

#include <memory>

#include "kinora/cache/method.h"

namespace kinora::cache {

/// "threshold", 0 .. 1000; 0 computes everything.
double threshold_of(const JsonObject& settings, double fallback);

std::unique_ptr<Method> make_pab(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_first_block(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_tea(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_easy(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_mag(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_taylor(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_faster(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_ada(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_planned(const JsonObject& settings, const Context& context);
std::unique_ptr<Method> make_dual_block(const JsonObject& settings, const Context& context);

}  // namespace kinora::cache
