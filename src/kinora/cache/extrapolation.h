// Which calls of a denoising to compute, and how to make up the others from them, so that the last sample moves least.
//
// Samplers are linear in the predictions: where call k's prediction is off by e_k, the last sample is off by
// sum_k influence_k e_k, but for what the model makes of it later. A prediction that is left out is made up as a linear
// combination of the last computed ones and the first latents; the best weights, and the error that remains, follow from
// the Gram matrix of one calibration. The calls to compute then are a shortest path, found by dynamic programming.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "kinora/cache/calibration.h"

namespace kinora::cache {

struct PlannedCall {
  bool is_computed = true;
  std::vector<std::pair<int64_t, double>> weights;  ///< of the predictions of computed calls, where it is not
  double first_latents = 0;                         ///< weight of the first latents
};

/// A plan in which `computed` calls are computed, the first always. `influence` as Context's. Throws UsageError for fewer
/// than one or more than all.
std::vector<PlannedCall> plan_calls(const Gram& gram, double guidance_scale, std::span<const double> influence,
                                    int64_t computed);

/// Root mean square by which the last sample is expected to move.
double expected_error(const Gram& gram, double guidance_scale, std::span<const double> influence,
                      std::span<const PlannedCall> plan);

}  // namespace kinora::cache
