#include "kinora/diffusion/influence.h"

#include "kinora/base/error.h"

namespace kinora {

std::vector<double> influence_of(const Scheduler& scheduler) {
  if (scheduler.is_stochastic())
    throw UsageError("a sampler that draws noise has no fixed influence of its predictions");
  const auto calls = static_cast<int64_t>(scheduler.timesteps().size());
  // All impulses at once: entry k is a run of its own, whose prediction is 1 at call k and 0 at the others.
  const at::NoGradGuard no_grad;
  Tensor sample = at::zeros({calls, 1, 1, 1, 1}, at::kDouble);
  Trajectory trajectory;
  for (int64_t k = 0; k < calls; ++k) {
    Tensor prediction = at::zeros_like(sample);
    prediction[k].fill_(1.0);
    sample = scheduler.step(trajectory, prediction, sample, [&] { return at::zeros_like(sample); });
  }
  const Tensor flat = sample.flatten().to(at::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

}  // namespace kinora
