// What a rank tells of its end to those who look for the cause.
#pragma once

#include <string>

#include "kinora/base/error.h"

namespace kinora::comm {

struct Failure {
  std::string what, hint;
  int exit_code = 0;
  bool is_everyones = false;  ///< every rank has seen it and tells the same
};

Failure failure_of(const Error& error);

}  // namespace kinora::comm
