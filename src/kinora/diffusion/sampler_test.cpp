#include "kinora/diffusion/sampler.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
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

}  // namespace
}  // namespace kinora
