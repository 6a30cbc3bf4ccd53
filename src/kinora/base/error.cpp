#include "kinora/base/error.h"

namespace kinora::detail {

void assertion_failed(const char* condition, const char* file, int line) {
  throw std::logic_error(concat("assertion failed: ", condition, " (", file, ":", line, ")"));
}

}  // namespace kinora::detail
