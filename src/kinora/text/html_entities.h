// The table behind html.h.
#pragma once

#include <string_view>

namespace kinora::text {

/// "Aacute!C1 Abreve=102 ...": see html_entities.cpp.
extern const std::string_view kHtmlEntities;

}  // namespace kinora::text
