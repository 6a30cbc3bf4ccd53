// How much each prediction of a denoising moves its last sample.
#pragma once

#include <vector>

#include "kinora/diffusion/scheduler.h"

namespace kinora {

/// d(last sample) / d(prediction of call k), for each call: a sampler is linear in the predictions, so its answer to a
/// unit impulse at one call tells. What the model would make of the moved samples is left out. Throws UsageError for a
/// sampler that draws noise.
std::vector<double> influence_of(const Scheduler& scheduler);

}  // namespace kinora
