#include "kinora/train/trainable.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"

namespace kinora::train {
namespace {

namespace fs = std::filesystem;

/// One parameter with a given value, and what training makes of given gradients.
struct One {
  One(const Tensor& value, OptimizerOptions options, at::ScalarType dtype = at::kFloat) {
    const Param p = Scope(params).param("w", value.sizes().vec());
    trainable.emplace(params, ResidentWeights({value}), dtype, at::kCPU, std::move(options));
    EXPECT_EQ(p.id, 0);
  }
  void step(const Tensor& grad, double lr_factor = 1, double grad_scale = 1) {
    Tensor weight = trainable->weights().get(params[0]);
    weight.mutable_grad() = grad.to(weight.scalar_type());
    trainable->step(lr_factor, grad_scale);
  }
  Tensor of(const std::string& what) const {
    for (const auto& [name, tensor] : trainable->state("")) {
      if (name == what + ".w") return tensor;
    }
    return {};
  }
  Params params;
  std::optional<Trainable> trainable;
};

TEST(AdamW, FollowsItsFormulaForSeveralSteps) {
  const OptimizerOptions o{.lr = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.04};
  One model(at::tensor({1.0f, -2.0f, 0.5f}), o);
  double p[] = {1, -2, 0.5}, m[3] = {}, v[3] = {};
  const double grads[4][3] = {{0.5, -1, 0}, {0.25, 3, 1e-3}, {-2, 0.1, 0}, {1, 1, 1}};
  for (int t = 1; t <= 4; ++t) {
    const double rate = 0.5 * o.lr, *g = grads[t - 1];
    model.step(at::tensor({g[0], g[1], g[2]}).to(at::kFloat), 0.5, 2.0);
    for (int i = 0; i < 3; ++i) {
      const double scaled = 2.0 * g[i];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * scaled;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * scaled * scaled;
      p[i] *= 1 - rate * o.weight_decay;
      p[i] -= rate * m[i] / (1 - std::pow(o.beta1, t)) / (std::sqrt(v[i] / (1 - std::pow(o.beta2, t))) + o.eps);
    }
    const Tensor got = model.of("master");
    for (int i = 0; i < 3; ++i) EXPECT_NEAR(got[i].item<double>(), p[i], 1e-5) << "step " << t;
  }
}

TEST(AdamW, FirstStepMovesByTheRateAgainstTheGradient) {
  One model(at::tensor({1.0f}), {.lr = 0.1, .weight_decay = 0.01});
  model.step(at::tensor({0.5f}));
  EXPECT_NEAR(model.of("master").item<double>(), 1 * (1 - 0.1 * 0.01) - 0.1, 1e-6);
}

TEST(Muon, OrthogonalisesEveryShape) {
  for (const auto& shape : {std::array<int64_t, 2>{17, 5}, {5, 17}, {13, 13}, {1, 7}, {64, 192}}) {
    SCOPED_TRACE(concat(shape[0], " x ", shape[1]));
    const Tensor matrix = at::randn({shape[0], shape[1]}, at::kDouble);
    const Tensor near = orthogonalized(matrix, at::kDouble);
    ASSERT_EQ(near.sizes(), matrix.sizes());
    EXPECT_LE((orthogonalized(matrix) - near).abs().max().item<double>(), 1e-4) << "in float32, the default";
    const auto [u, s, vh] = at::linalg_svd(matrix, false);
    const Tensor turned =
        at::mm(at::mm(u.t(), near), vh.t());  // diagonal when the singular vectors are the matrix's own
    const Tensor diagonal = turned.diagonal();
    EXPECT_LE((turned - at::diag(diagonal)).abs().max().item<double>(), 1e-8);
    // A square matrix may have a singular value next to zero, which five steps cannot lift.
    const Tensor lifted = diagonal.masked_select(s.gt(0.02 * s.norm()));
    EXPECT_GE(lifted.min().item<double>(), 0.6);
    EXPECT_LE(diagonal.max().item<double>(), 1.3);
  }
}

TEST(Muon, UpdateIsTheOrthogonalisedMomentumInTheScaleOfAdamW) {
  const Tensor start = at::randn({3, 4, 2}), g1 = at::randn({3, 4, 2}), g2 = at::randn({3, 4, 2});
  const OptimizerOptions o{
      .weight_decay = 0.1, .muon_lr = 0.02, .muon_momentum = 0.9, .use_muon = [](const Param&) { return true; }};
  One model(start, o);
  Tensor want = start, momentum = at::zeros_like(start);
  for (const Tensor& g : {g1, g2}) {
    model.step(g, 0.5, 3.0);
    momentum = 0.9 * momentum + 3 * g;
    const Tensor update = orthogonalized((3 * g + 0.9 * momentum).flatten(1)).view_as(start);
    want = want * (1 - 0.5 * 0.02 * 0.1) - 0.5 * 0.02 * 0.2 * std::sqrt(8.0) * update;
  }
  EXPECT_TRUE(at::allclose(model.of("master"), want, 1e-5, 1e-6));
  EXPECT_FALSE(model.of("second").defined());
}

TEST(Muon, IsForPickedMatricesOnly) {
  const auto all = [](const Param&) { return true; };
  EXPECT_TRUE(One(at::zeros({3}), {.muon_lr = 0.1, .use_muon = all}).of("second").defined())
      << "a vector goes to AdamW";
  EXPECT_TRUE(One(at::zeros({3, 2}), {.muon_lr = 0.0, .use_muon = all}).of("second").defined());
  EXPECT_TRUE(One(at::zeros({3, 2}), {.muon_lr = 0.1}).of("second").defined());
  EXPECT_FALSE(One(at::zeros({3, 2}), {.muon_lr = 0.1, .use_muon = all}).of("second").defined());
}

TEST(Trainable, AverageWarmsUpAndThenDecaysAsAsked) {
  One model(at::tensor({1.0f}), {.lr = 0.1, .ema_decay = 0.25});
  double ema = 1;
  for (int t = 1; t <= 6; ++t) {
    model.step(at::tensor({0.5f}));
    const double decay = std::min(0.25, (1.0 + t) / (10.0 + t)), master = model.of("master").item<double>();
    ema = decay * ema + (1 - decay) * master;
    EXPECT_NEAR(model.of("ema").item<double>(), ema, 1e-6) << "step " << t;
  }
  EXPECT_NEAR(model.trainable->averaged(at::kFloat).get(model.params[0]).item<double>(), ema, 1e-6);
  EXPECT_EQ(model.trainable->averaged(at::kBFloat16).get(model.params[0]).scalar_type(), at::kBFloat16);
}

TEST(Trainable, NarrowWeightsFollowWideMasters) {
  // Updates far below bfloat16's steps at 1 add up in the master and reach the weight in the end.
  One model(at::tensor({1.0f}), {.lr = 1e-4}, at::kBFloat16);
  for (int t = 0; t < 100; ++t) {
    model.step(at::tensor({1.0f}));
    ASSERT_TRUE(model.trainable->weights().get(model.params[0]).equal(model.of("master").to(at::kBFloat16)));
  }
  EXPECT_NEAR(model.of("master").item<double>(), 0.99, 1e-4);
  EXPECT_LT(model.trainable->weights().get(model.params[0]).item<double>(), 1.0);
}

TEST(Trainable, NarrowGradientsAreScaledAsWideOnes) {
  // Clipping is such a scale. AdamW's first step does not show it, its moments do.
  for (const double muon_lr : {0.0, 0.01}) {
    const OptimizerOptions o{.lr = 0.1, .muon_lr = muon_lr, .use_muon = [](const Param&) { return true; }};
    One wide(at::zeros({4, 3}), o), narrow(at::zeros({4, 3}), o, at::kBFloat16);
    const Tensor g = at::full({4, 3}, 8.0f);
    wide.step(g, 1, 0.125), narrow.step(g, 1, 0.125);
    EXPECT_TRUE(narrow.of("momentum").equal(wide.of("momentum"))) << muon_lr;
    EXPECT_LT(narrow.of("momentum").max().item<double>(), 1.01) << muon_lr;
  }
}

TEST(Trainable, StateIsFoundByNameWhateverElseIsTrained) {
  const TempFolder folder;
  const auto file = folder / "state.safetensors";
  // The same two matrices, in another order and beside parameters that the first run did not have.
  Params first, second;
  const Scope a(first), b(second);
  a.param("to_q", {2, 2}), a.param("to_k", {2, 2});
  b.frozen().param("table", {2, 2}), b.param("to_k", {2, 2}), b.param("to_q", {2, 2});
  const Tensor q = at::full({2, 2}, 3.0f), k = at::full({2, 2}, -5.0f), zero = at::zeros({2, 2});
  Trainable one(first, ResidentWeights({q, k}), at::kFloat, at::kCPU, {.lr = 0.1});
  (one.weights().get(first[0]).sum() * 2 + one.weights().get(first[1]).sum()).backward();
  one.step(1, 1);
  save_tensors(file, one.state("m."));
  Trainable other(second, ResidentWeights({zero, zero, zero}), at::kFloat, at::kCPU, {.lr = 0.1});
  other.load_state(Checkpoint(file), "m.");
  EXPECT_TRUE(other.weights().get(second[2]).equal(one.weights().get(first[0])));
  EXPECT_TRUE(other.weights().get(second[1]).equal(one.weights().get(first[1])));
  const auto state_of = [](const Trainable& t) {
    std::map<std::string, Tensor> all;
    for (const auto& [name, tensor] : t.state("")) all.emplace(name, tensor);
    return all;
  };
  const auto want = state_of(one), got = state_of(other);
  ASSERT_EQ(want.size(), got.size());
  for (const auto& [name, tensor] : want) EXPECT_TRUE(got.at(name).equal(tensor)) << name;
}

TEST(Trainable, ParametersThatAreNotTrainableStay) {
  Params params;
  const Scope root(params);
  root.param("w", {2}), root.frozen().param("table", {2});
  Trainable model(params, ResidentWeights({at::ones({2}), at::full({2}, 3.0f)}), at::kFloat, at::kCPU, {.lr = 0.1});
  (model.weights().get(params[0]).sum() + 0).backward();
  EXPECT_FALSE(model.weights().get(params[1]).requires_grad());
  EXPECT_NEAR(model.squared_grad_norm(), 2, 1e-6);
  model.step(1, 1);
  EXPECT_EQ(model.squared_grad_norm(), 0) << "a step clears the gradients";
  EXPECT_TRUE(model.weights().get(params[1]).equal(at::full({2}, 3.0f)));
  const NamedTensors averaged = model.averaged_tensors(at::kFloat);
  ASSERT_EQ(averaged.size(), 2U);
  EXPECT_EQ(averaged[1].first, "table");
  EXPECT_TRUE(averaged[1].second.equal(at::full({2}, 3.0f)));
}

TEST(Trainable, ParameterWithoutAGradientStays) {
  One model(at::ones({3}), {.lr = 0.1});
  model.trainable->step(1, 1);
  EXPECT_TRUE(model.of("master").equal(at::ones({3})));
}

TEST(Trainable, StateReadBackContinuesAsIfNothingHappened) {
  const TempFolder folder;
  const auto file = folder / "state.safetensors";
  const OptimizerOptions o{.lr = 0.1, .weight_decay = 0.1, .ema_decay = 0.9};
  One first(at::randn({5, 3}), o, at::kBFloat16), other(at::zeros({5, 3}), o, at::kBFloat16),
      wrong(at::zeros({3, 5}), o);
  const Tensor g = at::randn({5, 3});
  first.step(g);
  save_tensors(file, first.trainable->state("m."));
  other.trainable->load_state(Checkpoint(file), "m.");
  EXPECT_THROW(wrong.trainable->load_state(Checkpoint(file), "m."), DataError);
  EXPECT_THROW(other.trainable->load_state(Checkpoint(file), "n."), DataError);
  first.step(g * 0.3), other.step(g * 0.3);
  for (const char* part : {"master", "ema", "momentum", "second"})
    EXPECT_TRUE(first.of(part).equal(other.of(part))) << part;
  EXPECT_TRUE(first.trainable->weights().get(first.params[0]).equal(other.trainable->weights().get(other.params[0])));
}

}  // namespace
}  // namespace kinora::train
