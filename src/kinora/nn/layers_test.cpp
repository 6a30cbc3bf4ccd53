#include "kinora/nn/layers.h"

#include <gtest/gtest.h>

#include "kinora/ops/conv.h"
#include "kinora/ops/norm.h"

namespace kinora {
namespace {

/// A model of one layer with seeded weights: normal everywhere, so that no bias or gain is an identity.
struct Bench {
  Params params;
  std::optional<ResidentWeights> weights;
  Run run() {
    std::vector<Tensor> tensors;
    for (const Param& p : params) tensors.push_back(at::randn(p.shape));
    weights.emplace(std::move(tensors));
    Run r;
    r.weights = &*weights;
    return r;
  }
  Tensor operator[](const char* name) { return weights->get(*params.find(name)); }
};

TEST(Layers, LinearDeclaresAndUsesWeightAndBias) {
  Bench b;
  const Linear layer(Scope(b.params) / "fc", 3, 5);
  const kinora::Run run = b.run();
  const Tensor x = at::randn({2, 7, 3});
  EXPECT_TRUE(layer(run, x).equal(at::linear(x, b["fc.weight"], b["fc.bias"])));
  ASSERT_NE(layer.bias(), nullptr);
  Bench bare;
  const Linear no_bias(Scope(bare.params), 3, 5, {.bias = false});
  EXPECT_EQ(bare.params.size(), 1);
  EXPECT_EQ(no_bias.bias(), nullptr);
  EXPECT_TRUE(no_bias(bare.run(), x).equal(at::linear(x, bare["weight"])));
}

TEST(Layers, MlpIsTwoLinearsAroundItsActivation) {
  Bench b;
  const Scope root(b.params);
  const Mlp layer(root / "fc1", root / "fc2", 3, 11, 5, ops::Activation::gelu_tanh);
  const kinora::Run run = b.run();
  const Tensor x = at::randn({7, 3});
  const Tensor hidden = at::gelu(at::linear(x, b["fc1.weight"], b["fc1.bias"]), "tanh");
  EXPECT_TRUE(at::allclose(layer(run, x), at::linear(hidden, b["fc2.weight"], b["fc2.bias"]), 1e-5, 1e-6));
}

TEST(Layers, LayerNormHasTheAffinePartThatWasAskedFor) {
  const Tensor x = at::randn({2, 3, 5, 7}), scale = at::randn({2, 1, 1, 7}), shift = at::randn({2, 1, 1, 7});
  Bench b, plain, gain;
  const LayerNorm layer(Scope(b.params), 7, {.eps = 1e-5});
  const kinora::Run run = b.run();
  const Tensor want = at::layer_norm(x, {7}, b["weight"], b["bias"], 1e-5);
  EXPECT_TRUE(at::allclose(layer(run, x), want, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(layer(run, x, scale, shift), want * (1 + scale) + shift, 1e-5, 1e-5));
  const LayerNorm bare(Scope(plain.params), 7, {.weight = false});
  EXPECT_EQ(plain.params.size(), 0);
  EXPECT_TRUE(at::allclose(bare(plain.run(), x), at::layer_norm(x, {7}, {}, {}, 1e-6), 1e-5, 1e-6));
  const LayerNorm gain_only(Scope(gain.params), 7, {.bias = false});
  EXPECT_EQ(gain.params.size(), 1);
}

TEST(Layers, RmsAndGroupNormReadTheirParameters) {
  Bench r, g;
  const RmsNorm rms(Scope(r.params) / "q_norm", 7, 1e-5);
  const kinora::Run rms_run = r.run();
  const Tensor x = at::randn({3, 7});
  EXPECT_TRUE(rms(rms_run, x).equal(ops::rms_norm(x, r["q_norm.weight"], 1e-5)));
  const GroupNorm group(Scope(g.params), 3, 9, 1e-6);
  const kinora::Run group_run = g.run();
  const Tensor y = at::randn({2, 9, 3, 5});
  const Tensor want = at::group_norm(y, 3, g["weight"], g["bias"], 1e-6);
  EXPECT_TRUE(group(group_run, y).equal(want));
  EXPECT_TRUE(group(group_run, y, ops::Activation::silu).equal(at::silu(want)));
}

TEST(Layers, ConvFillsInStrideAndPadding) {
  Bench b, c;
  const Conv flat(Scope(b.params), 3, 5, {3, 3}, {.padding = {1, 1}});
  const kinora::Run run = b.run();
  const Tensor x = at::randn({2, 3, 7, 5});
  EXPECT_TRUE(at::allclose(flat(run, x), at::conv2d(x, b["weight"], b["bias"], 1, 1), 1e-4, 1e-5));
  const Conv deep(Scope(c.params), 3, 2, {3, 1, 1}, {.stride = {2, 1, 1}, .bias = false});
  EXPECT_EQ(c.params.size(), 1);
  const kinora::Run deep_run = c.run();
  const Tensor v = at::randn({1, 3, 7, 3, 5});
  EXPECT_TRUE(at::allclose(deep(deep_run, v), at::conv3d(v, c["weight"], {}, {2, 1, 1}), 1e-4, 1e-5));
}

TEST(Layers, KernelOfOneDimensionIsABug) {
  Params params;
  EXPECT_ANY_THROW(Conv(Scope(params), 3, 5, {3}));
}

}  // namespace
}  // namespace kinora
