#include "kinora/diffusion/influence.h"

#include <gtest/gtest.h>

#include "kinora/base/json.h"
#include "kinora/diffusion/rflow.h"
#include "kinora/diffusion/schedulers.h"

namespace kinora {
namespace {

TEST(Influence, OfRectifiedFlowIsTheStep) {
  const RFlow flow(8, 3.0);
  const auto times = flow.timesteps();
  const std::vector<double> influence = influence_of(flow);
  ASSERT_EQ(influence.size(), 8u);
  for (size_t i = 0; i < 8; ++i)
    EXPECT_NEAR(influence[i], (times[i] - (i + 1 < 8 ? times[i + 1] : 0)) / 1000, 1e-6) << i;
}

// DDIM scales the sample too, so that an early prediction counts by all that is done to it later: held to a run whose
// predictions differ in one call.
TEST(Influence, TellsHowFarTheLastSampleMoves) {
  const auto scheduler = make_scheduler("DDIMScheduler", {{"beta_schedule", "linear"}, {"clip_sample", false}}, 6, {});
  const std::vector<double> influence = influence_of(*scheduler);
  const auto last = [&](int moved) {
    Tensor sample = at::full({1, 1, 1, 1, 1}, 0.7, at::kDouble);
    Trajectory trajectory;
    for (int k = 0; k < 6; ++k)
      sample = scheduler->step(trajectory, at::full_like(sample, k == moved ? 0.3 : 0.2), sample,
                               [&] { return at::zeros_like(sample); });
    return sample.item<double>();
  };
  for (int k = 0; k < 6; ++k) EXPECT_NEAR(last(k) - last(-1), 0.1 * influence[static_cast<size_t>(k)], 1e-6) << k;
}

}  // namespace
}  // namespace kinora
