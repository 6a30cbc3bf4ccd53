#include "kinora/video/adapters.h"

#include <charconv>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora::video {

Adapter parse_adapter(const std::string& text) {
  const size_t colon = text.rfind(':');
  std::error_code ignored;
  if (colon == std::string::npos || std::filesystem::exists(text, ignored)) return {.path = text};
  Adapter adapter{.path = text.substr(0, colon)};
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(begin, end, adapter.strength);
  if (failed == std::errc() && stop == end && std::isfinite(adapter.strength)) return adapter;
  throw UsageError(concat("\"", printable(text, 200), "\" is no file, and ends in no strength"),
                   "write FILE, or FILE:STRENGTH with a number such as 0.8");
}

}  // namespace kinora::video
