#include "kinora/comm/failure.h"

#include "kinora/comm/agree.h"

namespace kinora::comm {

Failure failure_of(const Error& error) {
  return {.what = error.what(),
          .hint = error.hint(),
          .exit_code = error.exit_code(),
          .is_everyones = dynamic_cast<const DifferenceError*>(&error) != nullptr};
}

}  // namespace kinora::comm
