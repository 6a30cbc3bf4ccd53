#include "kinora/diffusion/schedulers.h"

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora {

std::unique_ptr<Scheduler> make_scheduler(std::string_view class_name, const Json& config, int steps,
                                          const SchedulerContext& context) {
  std::string known;
  for (const auto& row : kSchedulers) {
    if (row.class_name == class_name) {
      if (steps < 1) throw UsageError(concat("steps must be at least 1, not ", steps));
      const JsonObject object(config, concat("scheduler ", class_name));
      auto made = row.make(object, steps, context);
      object.warn_unknown();
      return made;
    }
    known += (known.empty() ? "" : ", ") + std::string(row.class_name);
  }
  throw UsageError(concat("the scheduler \"", printable(class_name), "\" is not known"), "known are " + known);
}

}  // namespace kinora
