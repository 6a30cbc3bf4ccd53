#include "kinora/nn/module.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kinora/nn/weights.h"

namespace kinora {
namespace {

TEST(Scope, NamesAreThePathInTheTree) {
  Params params;
  const Scope root(params);
  const Param weight = (root / "blocks" / 3 / "attn").param("weight", {2, 3});
  EXPECT_EQ(weight.name, "blocks.3.attn.weight");
  EXPECT_EQ(root.param("bias", {5}).name, "bias");
  EXPECT_EQ((root / "blocks" / 3).path(), "blocks.3");
  EXPECT_EQ(Scope(params, "unet").param("table", {1}).name, "unet.table");
}

TEST(Params, IdsFollowTheOrderOfDeclaration) {
  Params params;
  const Scope root(params);
  root.param("a", {2, 3}), root.param("b", {}), root.param("c", {5});
  EXPECT_EQ(params.size(), 3);
  EXPECT_EQ(params.num_elements(), 6 + 1 + 5);
  int32_t id = 0;
  for (const Param& p : params) EXPECT_EQ(p.id, id++);
  ASSERT_NE(params.find("c"), nullptr);
  EXPECT_EQ(params.find("c")->id, 2);
  EXPECT_EQ(params[2].shape, (std::vector<int64_t>{5}));
  EXPECT_EQ(params.find("d"), nullptr);
}

TEST(Params, NameDeclaredTwiceIsABug) {
  Params params;
  const Scope root(params);
  (root / "a").param("weight", {1});
  EXPECT_THROW(root.param("a.weight", {1}), std::logic_error);
  EXPECT_EQ(params.size(), 1);
}

TEST(Scope, FrozenPlacesAndTheirChildrenAreNotTrainable) {
  Params params;
  const Scope root(params);
  root.param("trained", {1});
  (root.frozen() / "deep" / 0).param("kept", {1});
  root.param("table", {1}, {.trainable = false});
  root.param("again", {1});
  EXPECT_TRUE(params.options(0).trainable);
  EXPECT_FALSE(params.options(1).trainable);
  EXPECT_FALSE(params.options(2).trainable);
  EXPECT_TRUE(params.options(3).trainable);
}

Tensor made(std::vector<int64_t> shape, Init init, uint64_t seed = 1) {
  Params params;
  Scope(params).param("p", std::move(shape), {.init = std::move(init)});
  return init_weights(params, seed).get(params[0]);
}

void expect_uniform(const Tensor& t, double bound) {
  EXPECT_LE(t.abs().max().item<double>(), bound);
  EXPECT_GT(t.abs().max().item<double>(), 0.98 * bound);
  EXPECT_NEAR(t.mean().item<double>(), 0, 0.03 * bound);
  EXPECT_NEAR(t.square().mean().item<double>(), bound * bound / 3, 0.03 * bound * bound);
}

TEST(Init, XavierUniformHasItsBound) {
  expect_uniform(made({97, 151}, init::xavier_uniform), std::sqrt(6.0 / (97 + 151)));
  expect_uniform(made({31, 17, 3, 5}, init::xavier_uniform), std::sqrt(6.0 / ((31 + 17) * 15)));
}

TEST(Init, KaimingUniformHasItsBound) {
  expect_uniform(made({97, 151}, init::kaiming_uniform), 1 / std::sqrt(151.0));
  expect_uniform(made({31, 17, 3, 3, 3}, init::kaiming_uniform), 1 / std::sqrt(17.0 * 27));
}

TEST(Init, NormalHasItsStandardDeviation) {
  const Tensor t = made({101, 103}, init::normal(0.02));
  EXPECT_NEAR(t.std().item<double>(), 0.02, 0.001);
  EXPECT_NEAR(t.mean().item<double>(), 0, 0.001);
}

TEST(InitWeights, SeedDecidesEveryValueAndDtypeIsTheLastStep) {
  Params params;
  const Scope root(params);
  root.param("w", {17, 3}, {.init = init::xavier_uniform}), root.param("one", {3}, {.init = init::ones}),
      root.param("zero", {3});
  ResidentWeights a = init_weights(params, 5), b = init_weights(params, 5), c = init_weights(params, 6);
  EXPECT_TRUE(a.get(params[0]).equal(b.get(params[0])));
  EXPECT_FALSE(a.get(params[0]).equal(c.get(params[0])));
  EXPECT_TRUE(a.get(params[1]).equal(at::ones({3})));
  EXPECT_TRUE(a.get(params[2]).equal(at::zeros({3})));
  ResidentWeights half = init_weights(params, 5, at::kBFloat16);
  EXPECT_TRUE(half.get(params[0]).equal(a.get(params[0]).to(at::kBFloat16)));
}

TEST(ResidentWeights, ParamOfAnotherModelIsABug) {
  Params params;
  Scope(params).param("w", {3});
  ResidentWeights weights = init_weights(params, 0);
  EXPECT_ANY_THROW(weights.get(Param{.id = 1, .name = "other", .shape = {3}}));
  EXPECT_ANY_THROW(weights.get(Param{}));
}

}  // namespace
}  // namespace kinora
