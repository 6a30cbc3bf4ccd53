// The schedulers of this build by the class names that published scheduler_config.json files have. A further one is a
// factory in a file of its own, its declaration and its row here.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kinora/base/json.h"
#include "kinora/diffusion/scheduler.h"

namespace kinora {

/// What a request says beyond the number of steps; a scheduler takes what its method uses.
struct SchedulerContext {
  double height = 0, width = 0;  ///< pixels of the clip
  int64_t num_frames = 1;
  at::ScalarType dtype = at::kFloat;  ///< of the pipeline
  std::optional<double> mu;           ///< dynamic shift that the pipeline computed from the clip's size
  std::vector<double> sigmas;         ///< noise levels in place of the scheduler's own spacing; empty: its own
};

/// Reads the keys of its config; throws DataError for a value that it does not have, UsageError for a context that it cannot serve.
using SchedulerFactory = std::unique_ptr<Scheduler>(const JsonObject& config, int steps,
                                                    const SchedulerContext& context);

SchedulerFactory make_rflow;             ///< rflow.cpp
SchedulerFactory make_flow_match_euler;  ///< flow_match_euler.cpp
SchedulerFactory make_ddim;              ///< ddim.cpp
SchedulerFactory make_cogvideox_ddim;    ///< ddim.cpp
SchedulerFactory make_unipc;             ///< unipc.cpp

struct SchedulerRow {
  std::string_view class_name;
  SchedulerFactory* make;
};

inline constexpr SchedulerRow kSchedulers[] = {
    {"RFLOW", make_rflow},
    {"FlowMatchEulerDiscreteScheduler", make_flow_match_euler},
    {"DDIMScheduler", make_ddim},
    {"CogVideoXDDIMScheduler", make_cogvideox_ddim},
    {"UniPCMultistepScheduler", make_unipc},
};

/// The scheduler of that class for one request. An empty config takes the class's defaults; keys that the class does not know are a
/// warning. Throws UsageError for an unknown class, listing the known ones, and for less than one step.
std::unique_ptr<Scheduler> make_scheduler(std::string_view class_name, const Json& config, int steps,
                                          const SchedulerContext& context = {});

}  // namespace kinora
