#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kinora/models/open_sora/test_stdit3.h"

namespace kinora::models {
namespace {

TEST(STDiT3Gradients, EqualDifferencesOfTheLoss) {
  STDiT3Config config = tiny_stdit3();
  config.depth = 1;
  TestSTDiT3 model(config);
  STDiT3Inputs in = stdit3_inputs(2, {2, 3, 4});
  in.caption_mask = stdit3_mask({2, 5});
  in.frame_mask = at::ones({2, 2}, at::kBool);
  in.frame_mask[0][1] = false;
  const Tensor cotangent = normal({2, 8, 2, 3, 4}, 5);
  const auto loss = [&] { return (model(in) * cotangent).sum(); };
  for (const Param& p : model.model.params()) model.weights.tensors()[p.id].requires_grad_(p.name != "rope.freqs");
  loss().backward();
  at::NoGradGuard no_grad;
  at::Generator generator = cpu_generator(11);
  for (const Param& p : model.model.params()) {
    if (p.name == "rope.freqs" || p.name == "y_embedder.y_embedding") continue;
    Tensor& w = model.weights.tensors()[p.id];
    ASSERT_TRUE(w.grad().defined()) << p.name;
    ASSERT_TRUE(w.grad().isfinite().all().item<bool>()) << p.name;
    const Tensor direction = at::empty(p.shape, at::kDouble).normal_(0, 1, generator);
    const Tensor before = w.detach().clone();
    const double step = 1e-5;
    w.copy_(before + step * direction);
    const double above = loss().item<double>();
    w.copy_(before - step * direction);
    const double below = loss().item<double>();
    w.copy_(before);
    const double want = (above - below) / (2 * step), got = (w.grad() * direction).sum().item<double>();
    EXPECT_NEAR(got, want, 1e-4 * std::max(1.0, std::abs(want))) << p.name;
  }
}

}  // namespace
}  // namespace kinora::models
