// Weights between their files and a device that cannot hold them: as many as the host's memory may take stay there, and
// only the others are read from the files for every pass.
#pragma once

#include "kinora/offload/store.h"
#include "kinora/offload/streamed.h"

namespace kinora::offload {

struct HostTier {
  /// `files` must outlive it. pins: what stays lies in pinned memory, from which a device copies by itself. What passes
  /// through does not: its slot is filled again as soon as the copy has been asked for, and must be read by then.
  HostTier(const Params& params, const StreamPlan& plan, WeightStore& files, bool pins)
      : weights(params, plan, files, {.pins = pins}), store(weights, files) {}

  StreamedWeights weights;
  SourceStore store;  ///< to fill a ring on the device from
};

}  // namespace kinora::offload
