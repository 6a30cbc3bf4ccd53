// The caches by name, and what a user writes to choose one: "pab", "pab:spatial=2,temporal=4,window=450..930".
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/cache/method.h"

namespace kinora::cache {

struct MethodRow {
  const char* name;
  const char* summary;
  /// `settings` holds what stands behind the name. Throws DataError for a setting that is unknown or beyond its limits,
  /// UsageError for a model or a sampler that the method cannot take.
  std::unique_ptr<Method> (*make)(const JsonObject& settings, const Context& context);
};

const std::vector<MethodRow>& methods();

/// The settings behind the name as an object: numbers, true and false (also on, off), a..b as [a, b], a+b+c as a list, the
/// rest as strings. Throws UsageError for what is not of this form.
Json parse_settings(std::string_view text);

/// The method that `text` names, or nothing for "none". Every method also takes keep=same, bfloat16 or int8 (form.h).
/// Throws UsageError that names the methods, or what the method said; for a budget that is too small, with the least that is not.
std::unique_ptr<Method> make_method(std::string_view text, const Context& context);

}  // namespace kinora::cache
