#include "kinora/diffusion/sampler.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/diffusion/branches_apart.h"
#include "kinora/diffusion/rflow.h"

namespace kinora {
namespace {

/// Predicts `cond` or `uncond` everywhere and remembers how it was called.
class Constant final : public Denoiser {
 public:
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override {
    active.emplace_back(step.active_frames.begin(), step.active_frames.end());
    std::vector<Tensor> out;
    for (const Branch b : wanted) out.push_back(at::full_like(latents, b == Branch::cond ? cond : uncond));
    rows += wanted.size();
    return out;
  }
  double cond = 2, uncond = 1;
  size_t rows = 0;
  std::vector<std::vector<uint8_t>> active;
};

Tensor ones() { return at::ones({1, 1, 3, 1, 1}); }

TEST(Sampler, GuidanceMovesAwayFromUncond) {
  Constant model;
  const Tensor out = sample(model, RFlow(2), at::zeros({1, 1, 3, 1, 1}), {.guidance_scale = 4}, ones);
  EXPECT_TRUE(at::allclose(out, at::full_like(out, 1 + 4 * (2 - 1))));
}

TEST(Sampler, GuidanceScaleOneAsksForCondOnly) {
  Constant model;
  sample(model, RFlow(3), at::zeros({1, 1, 3, 1, 1}), {.guidance_scale = 1}, ones);
  EXPECT_EQ(model.rows, 3u);
}

TEST(Sampler, BranchesApartAreAskedForOneByOne) {
  Constant model, both;
  BranchesApart apart(model);
  const Tensor latents = at::zeros({1, 1, 3, 1, 1});
  EXPECT_TRUE(guided(apart, latents, {}, 4).equal(guided(both, latents, {}, 4)));
  EXPECT_EQ(model.active.size(), 2u);
  EXPECT_EQ(both.active.size(), 1u);
}

TEST(Sampler, FramesWithRatioZeroStayAndOthersJoinInTime) {
  Constant model;
  const Tensor given = at::full({1, 1, 3, 1, 1}, 5.0);
  const Tensor out = sample(model, RFlow(4), given, {.guidance_scale = 1, .edit_ratio = {1, 0, 0.5}}, ones);
  EXPECT_EQ(out.flatten()[1].item<double>(), 5);
  EXPECT_EQ(model.active[0], (std::vector<uint8_t>{1, 0, 0}));
  EXPECT_EQ(model.active[2], (std::vector<uint8_t>{1, 0, 1}));
  // joins at t = 500 as half 5, half noise of 1, then moves by the velocity 2 for half the way
  EXPECT_NEAR(out.flatten()[2].item<double>(), 0.5 * 5 + 0.5 * 1 + 2 * 0.5, 1e-6);
}

TEST(Sampler, StopsBetweenCallsWhenCancelled) {
  Constant model;
  std::stop_source stop;
  const SampleOptions options{.on_step =
                                  [&](int done, int, const Tensor&) {
                                    if (done == 2) stop.request_stop();
                                  },
                              .cancel = stop.get_token()};
  EXPECT_THROW(sample(model, RFlow(5), at::zeros({1, 1, 3, 1, 1}), options, ones), CancelledError);
  EXPECT_EQ(model.active.size(), 2u);
}

TEST(Sampler, WrongNumberOfEditRatiosIsAUsageError) {
  Constant model;
  EXPECT_THROW(sample(model, RFlow(2), at::zeros({1, 1, 3, 1, 1}), {.edit_ratio = {1, 0}}, ones), UsageError);
}

TEST(Sampler, ARunThatGoesOnFromAnyCallEndsTheSame) {
  const SampleOptions plain{.guidance_scale = 3, .edit_ratio = {1, 0, 0.5}};
  // Noise that differs from call to call, as a generator's does; its place is the caller's to keep.
  const auto draws_from = [](int& place) {
    return [&place]() -> Tensor { return at::full({1, 1, 3, 1, 1}, 0.1 * ++place); };
  };
  Constant model;
  int place = 0;
  const Tensor whole = sample(model, RFlow(6), at::full({1, 1, 3, 1, 1}, 5.0), plain, draws_from(place));
  for (int k = 1; k < 6; ++k) {
    SampleState state{.latents = at::full({1, 1, 3, 1, 1}, 5.0), .trajectory = {}, .joined = {}};
    std::stop_source stop;
    SampleOptions cut = plain;
    cut.cancel = stop.get_token();
    cut.on_step = [&](int done, int, const Tensor&) {
      if (done == k) stop.request_stop();
    };
    place = 0;
    EXPECT_THROW(sample(model, RFlow(6), state, cut, draws_from(place)), CancelledError);
    EXPECT_EQ(state.trajectory.call, k);
    sample(model, RFlow(6), state, plain, draws_from(place));
    EXPECT_TRUE(state.latents.equal(whole)) << k;
  }
}

TEST(Sampler, AStateOfAnotherRunIsAUsageError) {
  Constant model;
  SampleState state{.latents = at::zeros({1, 1, 3, 1, 1}), .trajectory = {.call = 3, .history = {}}, .joined = {}};
  EXPECT_THROW(sample(model, RFlow(2), state, {}, ones), UsageError);
  state = {.latents = at::zeros({1, 1, 3, 1, 1}), .trajectory = {}, .joined = {1, 1}};
  EXPECT_THROW(sample(model, RFlow(2), state, {}, ones), UsageError);
}

TEST(Sampler, EstimatesOfAStraightPathAreItsEnd) {
  Constant model;
  std::vector<int> seen;
  SampleOptions options{.guidance_scale = 1, .edit_ratio = {1, 0, 1}};
  options.estimate_every = 2;
  options.on_estimate = [&](int done, int calls, const Tensor& clean) {
    seen.push_back(done);
    EXPECT_EQ(calls, 5);
    EXPECT_TRUE(at::allclose(clean.flatten(), at::tensor({2.0, 0.0, 2.0}))) << clean;  // a velocity of 2 from 0
  };
  sample(model, RFlow(5), at::zeros({1, 1, 3, 1, 1}, at::kDouble), options, ones);
  EXPECT_EQ(seen, (std::vector<int>{2, 4}));
}

}  // namespace
}  // namespace kinora
