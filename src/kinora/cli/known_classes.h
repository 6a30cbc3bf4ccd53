// The classes of published models that this build knows, and what it can do with each.
#pragma once

#include <string>
#include <string_view>

#include "kinora/base/json.h"

namespace kinora::cli {

/// What works with a class of a model_index.json or config.json, as the end of a sentence: "kinora generate takes it".
/// Empty: the class is not known.
std::string_view use_of(std::string_view cls);

/// `_class_name` (diffusers), else the first of `architectures`, else `model_type` (transformers); empty when the config
/// says none.
std::string class_of(const Json& config);

}  // namespace kinora::cli
