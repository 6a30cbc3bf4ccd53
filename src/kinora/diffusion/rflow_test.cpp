#include "kinora/diffusion/rflow.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"

namespace kinora {
namespace {

Tensor no_noise() { throw std::logic_error("RFLOW draws no noise"); }

TEST(RFlow, TimesStartAt1000AndFallToTheLastStep) {
  const RFlow flow(4);
  const std::vector<double> want{1000, 750, 500, 250};
  EXPECT_EQ(std::vector<double>(flow.timesteps().begin(), flow.timesteps().end()), want);
}

TEST(RFlow, ShiftOfABase512PictureIsTheIdentity) {
  const RFlowShift shift{.height = 512, .width = 512, .num_frames = 1};
  for (const double t : {1000.0, 500.0, 1.0}) EXPECT_NEAR(shift_timestep(t, shift), t, 1e-3);
}

TEST(RFlow, ShiftRoundsSizesInTheGivenDtype) {
  const RFlowShift exact{.height = 480, .width = 854, .num_frames = 51};
  RFlowShift rounded = exact;
  rounded.dtype = at::kBFloat16;
  EXPECT_NEAR(shift_timestep(500, exact), 828.8586, 1e-3);
  EXPECT_NEAR(shift_timestep(500, rounded), 828.8770, 1e-3);
}

TEST(RFlow, FixedShiftSpendsStepsOnNoisyTimes) {
  const RFlow flow(4, 3.0);
  const std::vector<double> want{1000, 900, 750, 500};
  ASSERT_EQ(flow.timesteps().size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(flow.timesteps()[i], want[i], 1e-9);
  EXPECT_NEAR(shift_timestep(300, 1.0), 300, 1e-9);
}

TEST(RFlow, ClipsShorterThanAChunkShiftAsAPictureDoes) {
  const RFlowShift picture{.height = 240, .width = 426, .num_frames = 1};
  RFlowShift clip = picture;
  clip.num_frames = 16;
  EXPECT_EQ(shift_timestep(500, clip), shift_timestep(500, picture));
}

TEST(RFlow, ExactVelocityLeadsFromNoiseToData) {
  const Tensor clean = at::randn({1, 2, 3, 2, 2}), noise = at::randn_like(clean);
  const RFlow flow(3);
  Trajectory trajectory;
  Tensor x = noise;
  for (int i = 0; i < 3; ++i) x = flow.step(trajectory, clean - noise, x, no_noise);
  EXPECT_TRUE(at::allclose(x, clean, 1e-5, 1e-6));
  EXPECT_EQ(trajectory.call, 3);
}

TEST(RFlow, AddNoiseTakesATimePerSample) {
  const Tensor clean = at::ones({2, 1, 1, 1, 1}), noise = at::zeros({2, 1, 1, 1, 1});
  const Tensor noised = RFlow(1).add_noise(clean, noise, at::tensor({0.0, 250.0}));
  EXPECT_TRUE(at::allclose(noised.flatten(), at::tensor({1.0f, 0.75f})));
}

TEST(RFlow, LossCountsOnlyFramesThatWereNoised) {
  const Tensor clean = at::zeros({1, 1, 2, 1, 1}), noise = at::zeros({1, 1, 2, 1, 1});
  const Tensor velocity = at::tensor({1.0f, 3.0f}).view({1, 1, 2, 1, 1});
  EXPECT_FLOAT_EQ(rflow_loss(velocity, clean, noise).item<float>(), 5);
  const Tensor second = at::tensor({0, 1}).view({1, 2}).to(at::kBool);
  EXPECT_FLOAT_EQ(rflow_loss(velocity, clean, noise, second).item<float>(), 9);
  const Tensor with_a_perfect_frame = at::tensor({0.0f, 3.0f}).view({1, 1, 2, 1, 1});
  EXPECT_FLOAT_EQ(rflow_loss(with_a_perfect_frame, clean, noise, at::ones({1, 2}, at::kBool)).item<float>(), 4.5);
  EXPECT_THROW(rflow_loss(velocity, clean, noise, at::zeros({1, 2}, at::kBool)), UsageError);
}

TEST(RFlow, ZeroStepsIsAUsageError) { EXPECT_THROW(RFlow(0), UsageError); }

}  // namespace
}  // namespace kinora
