#include "kinora/diffusion/schedulers.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/tensor/random.h"

namespace kinora {
namespace {

/// A fixed sequence of noise, so that two runs can be held against each other.
struct Noise {
  at::Generator generator = cpu_generator(7);
  Tensor like;
  Tensor operator()() { return at::randn(like.sizes(), generator, like.options()); }
};

Tensor prediction(const Tensor& input, int call) { return 0.9 * input + 0.1 * call; }

/// Every row of the table with the defaults of its class: what samplers rely on, whatever the method.
class EveryScheduler : public ::testing::TestWithParam<SchedulerRow> {
 protected:
  static std::unique_ptr<Scheduler> make(int steps) {
    return make_scheduler(GetParam().class_name, Json::object(), steps,
                          {.height = 480, .width = 854, .num_frames = 51});
  }
};

INSTANTIATE_TEST_SUITE_P(Table, EveryScheduler, ::testing::ValuesIn(kSchedulers),
                         [](const auto& row) { return std::string(row.param.class_name); });

TEST_P(EveryScheduler, TimesFallFromTheNoisyEndAndStayInTheModelsUnits) {
  for (const int steps : {1, 3, 17, 50}) {
    const auto scheduler = make(steps);
    const auto times = scheduler->timesteps();
    ASSERT_GE(times.size(), static_cast<size_t>(steps));
    EXPECT_TRUE(std::is_sorted(times.rbegin(), times.rend()));
    if (steps > 1) {
      EXPECT_GE(times.front(), 500.0);
    }
    EXPECT_LE(times.front(), 1000.0);
    EXPECT_GE(times.back(), 0.0);
  }
}

TEST_P(EveryScheduler, StepAdvancesTheCallAndKeepsShapeAndDtype) {
  const auto scheduler = make(7);
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    Tensor x = at::randn({1, 4, 3, 5, 2}, dtype) * scheduler->initial_sigma();
    Noise noise{.like = x};
    Trajectory trajectory;
    const int calls = static_cast<int>(scheduler->timesteps().size());
    for (int i = 0; i < calls; ++i) {
      const Tensor before = x.clone(), input = scheduler->scale_input(x, i);
      const Tensor next = scheduler->step(trajectory, prediction(input, i), x, noise);
      EXPECT_TRUE(x.equal(before)) << "the sample was written";
      x = next;
      ASSERT_EQ(trajectory.call, i + 1);
      ASSERT_EQ(x.sizes(), before.sizes());
      ASSERT_EQ(x.scalar_type(), dtype);
      ASSERT_TRUE(at::isfinite(x).all().item<bool>());
    }
  }
}

TEST_P(EveryScheduler, TrajectoryIsAValueThatCanBeSavedAndResumed) {
  const auto scheduler = make(6);
  const int calls = static_cast<int>(scheduler->timesteps().size());
  Tensor x = at::randn({1, 2, 3, 5, 2}), middle, drawn;
  Noise noise{.like = x}, later;
  Trajectory trajectory, saved;
  for (int i = 0; i < calls; ++i) {
    if (i == calls / 2) saved = trajectory, middle = x, later = Noise{.generator = noise.generator.clone(), .like = x};
    x = scheduler->step(trajectory, prediction(scheduler->scale_input(x, i), i), x, noise);
  }
  Tensor y = middle;
  for (int i = calls / 2; i < calls; ++i)
    y = scheduler->step(saved, prediction(scheduler->scale_input(y, i), i), y, later);
  EXPECT_TRUE(x.equal(y));
  const Tensor start = at::randn({1, 2, 3, 5, 2});
  Trajectory a, b;
  Noise same{.like = start}, other{.like = start};
  EXPECT_TRUE(scheduler->step(a, start, start, same).equal(make(6)->step(b, start, start, other)))
      << "two of the same request differ";
}

TEST_P(EveryScheduler, AddNoiseGoesFromTheSampleToNoise) {
  const auto scheduler = make(10);
  const auto times = scheduler->timesteps();
  at::manual_seed(5);  // noise that has next to nothing of the sample
  const Tensor clean = at::randn({3, 2, 3, 5, 2}), noise = at::randn_like(clean);
  const auto at_time = [&](double t) { return scheduler->add_noise(clean, noise, at::full({}, t, at::kDouble)); };
  const auto share = [](const Tensor& x, const Tensor& of) {
    return (x * of).sum().item<double>() / of.square().sum().item<double>();
  };
  EXPECT_LT(share(at_time(times.front()), clean), 0.2);
  EXPECT_GT(share(at_time(times.front()), noise), 0.8);
  EXPECT_GT(share(at_time(times.back()), clean), share(at_time(times.front()), clean));
  const Tensor each = at::tensor({times[0], times[5], times[9]}, at::kDouble);
  const Tensor batch = scheduler->add_noise(clean, noise, each);
  for (int64_t b = 0; b < 3; ++b) {
    EXPECT_TRUE(batch[b].equal(scheduler->add_noise(clean[b].unsqueeze(0), noise[b].unsqueeze(0), each[b])[0]))
        << "a time for each sample";
  }
}

TEST_P(EveryScheduler, LessThanOneStepIsAUsageError) {
  EXPECT_THROW(make(0), UsageError);
  EXPECT_THROW(make(-3), UsageError);
}

TEST(MakeScheduler, UnknownClassIsAUsageErrorThatListsTheKnownOnes) {
  try {
    make_scheduler("NoScheduler", Json::object(), 10);
    FAIL() << "made";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("NoScheduler"), std::string::npos);
    for (const auto& row : kSchedulers) EXPECT_NE(e.hint().find(row.class_name), std::string::npos);
  }
}

TEST(MakeScheduler, ConfigOfAWrongTypeIsADataError) {
  EXPECT_THROW(make_scheduler("RFLOW", Json::array(), 10), DataError);
  EXPECT_THROW(make_scheduler("RFLOW", {{"use_timestep_transform", "yes"}}, 10), DataError);
}

TEST(MakeScheduler, ConfigThatNoScheduleFollowsFromIsADataError) {
  const std::string flow = "FlowMatchEulerDiscreteScheduler", ddim = "DDIMScheduler", cog = "CogVideoXDDIMScheduler",
                    unipc = "UniPCMultistepScheduler";
  const std::pair<std::string, Json> rows[] = {
      {"RFLOW", {{"num_train_timesteps", 500}}},
      {flow, {{"shift", 0}}},
      {flow, {{"shift_terminal", 1.5}}},
      {flow, {{"num_train_timesteps", 0}}},
      {ddim, {{"beta_schedule", "wavy"}}},
      {ddim, {{"beta_end", 1.5}}},
      {ddim, {{"trained_betas", {0.1, 0.2}}}},
      {ddim, {{"prediction_type", "guess"}}},
      {ddim, {{"timestep_spacing", "random"}}},
      {ddim, {{"steps_offset", 999}}},
      {ddim, {{"rescale_betas_zero_snr", true}, {"timestep_spacing", "trailing"}}},
      {ddim, {{"eta", -0.1}}},
      {ddim, {{"eta", 1.5}}},
      {cog, {{"snr_shift_scale", -1}}},
      {unipc, {{"solver_order", 0}}},
      {unipc, {{"solver_type", "heun"}}},
      {unipc, {{"prediction_type", "flow_prediction"}}},
      {unipc, {{"use_flow_sigmas", true}, {"flow_shift", 0}}},
      {unipc, {{"use_flow_sigmas", true}, {"use_karras_sigmas", true}}},
      {unipc, {{"use_beta_sigmas", true}}},
      {unipc, {{"final_sigmas_type", "odd"}}},
      {unipc, {{"timestep_spacing", "random"}}},
  };
  for (const auto& [name, config] : rows) {
    EXPECT_THROW(make_scheduler(name, config, 10, {.height = 64, .width = 64}), DataError) << name << config;
  }
  EXPECT_THROW(make_scheduler(flow, {{"use_dynamic_shifting", true}, {"time_shift_type", "odd"}}, 10, {.mu = 1.0}),
               DataError);
}

TEST(MakeScheduler, ContextThatDoesNotServeIsAUsageError) {
  const std::string flow = "FlowMatchEulerDiscreteScheduler";
  EXPECT_THROW(make_scheduler("RFLOW", Json::object(), 10), UsageError) << "its shift needs a size";
  EXPECT_THROW(make_scheduler(flow, {{"use_dynamic_shifting", true}}, 10), UsageError) << "needs mu";
  EXPECT_THROW(make_scheduler(flow, Json::object(), 3, {.sigmas = {1.0, 0.5}}), UsageError);
  EXPECT_THROW(make_scheduler(flow, Json::object(), 2, {.sigmas = {1.0, 0.0}}), UsageError);
  EXPECT_THROW(make_scheduler("DDIMScheduler", Json::object(), 1001), UsageError);
}

TEST(MakeScheduler, UniPcFollowsAStraightPathExactly) {
  const auto scheduler = make_scheduler(
      "UniPCMultistepScheduler",
      {{"prediction_type", "flow_prediction"}, {"use_flow_sigmas", true}, {"flow_shift", 3}, {"solver_order", 3}}, 6);
  const auto no_noise = []() -> Tensor { throw std::logic_error("UniPC draws no noise"); };
  const Tensor clean = at::randn({1, 2, 3, 5, 2}, at::kDouble), noise = at::randn_like(clean);
  const double first = scheduler->tables().at("sigmas").front();
  Tensor x = (1 - first) * clean + first * noise;
  Trajectory trajectory;
  while (trajectory.call < 6) x = scheduler->step(trajectory, noise - clean, x, no_noise);
  EXPECT_TRUE(x.allclose(clean, 1e-9, 1e-9)) << "the prediction says where the path ends at every step";
}

TEST(MakeScheduler, OneStepHasNothingToStretchToATerminalLevel) {
  const auto one = make_scheduler("FlowMatchEulerDiscreteScheduler", {{"shift_terminal", 0.1}}, 1);
  EXPECT_DOUBLE_EQ(one->timesteps()[0], 1000);
}

TEST(MakeScheduler, RflowShiftsTimesOnlyWhereItsConfigSaysSo) {
  const SchedulerContext clip{.height = 480, .width = 854, .num_frames = 51};
  EXPECT_DOUBLE_EQ(make_scheduler("RFLOW", {{"use_timestep_transform", false}}, 4, clip)->timesteps()[2], 500);
  EXPECT_DOUBLE_EQ(make_scheduler("RFLOW", {{"shift", 3}}, 4, clip)->timesteps()[2], 750);
  for (const double wrong : {0.0, -1.0, 101.0})
    EXPECT_THROW(make_scheduler("RFLOW", {{"shift", wrong}}, 4, clip), DataError);
  EXPECT_NEAR(make_scheduler("RFLOW", {{"use_timestep_transform", true}}, 4, clip)->timesteps()[2], 828.8586, 1e-3);
}

}  // namespace
}  // namespace kinora
