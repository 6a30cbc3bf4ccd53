#include "kinora/models/cogvideox/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <stop_token>
#include <string>

#include "kinora/base/error.h"
#include "kinora/models/test_configs.h"
#include "kinora/nn/site.h"
#include "kinora/nn/test_weights.h"

namespace kinora::models::cogvideox {
namespace {

CogVideoXConfig tiny_rotary() {
  CogVideoXConfig c = tiny_cogvideox();
  c.use_rotary_positional_embeddings = true;
  return c;
}

Tensor noise(at::IntArrayRef shape, double phase = 0) {
  return (at::arange(c10::multiply_integers(shape), at::kFloat) * 0.37 + phase).sin().view(shape);
}

CogVideoXTransformer::Inputs inputs_for(const CogVideoXConfig& c, int64_t batch, int64_t frames, int64_t height,
                                        int64_t width) {
  CogVideoXTransformer::Inputs in{.hidden_states = noise({batch, frames, c.in_channels, height, width}),
                                  .encoder_hidden_states = noise({batch, c.max_text_seq_length, c.text_embed_dim}, 1),
                                  .timestep = at::arange(batch, at::kLong) * 401 + 7};
  in.rotary = rotary_positions(c, frames, height, width);
  if (c.ofs_embed_dim > 0) in.ofs = at::full({batch}, 2.0);
  return in;
}

/// Notes every site; changes nothing.
struct Recorder : Policy {
  std::vector<std::string> seen;
  void keep(const SiteKey& key, const kinora::Run&, const Streams& streams) override {
    EXPECT_EQ(streams.size(), 2u);
    const std::string point = key.point == Point::module ? "module" : "residual";
    seen.push_back(concat(key.path, " ", key.block, " ", key.kind == Kind::full ? "full " : "mlp ", point));
  }
};

TEST(CogVideoX, SitesComeInOrderTheModuleInsideTheResidualAndChangeNothing) {
  const auto config = tiny_rotary();
  const CogVideoXTransformer model(config);
  auto weights = init_weights(model.params(), 5);
  const auto in = inputs_for(config, 2, 3, 6, 10);
  Recorder recorder;
  const Tensor watched = model.forward({.weights = &weights, .policy = &recorder}, in);
  EXPECT_TRUE(watched.equal(model.forward({.weights = &weights}, in)));
  const std::vector<std::string> want{
      "transformer_blocks.0.attn1 0 full module", "transformer_blocks.0.attn1 0 full residual",
      "transformer_blocks.0.ff 0 mlp module",     "transformer_blocks.0.ff 0 mlp residual",
      "transformer_blocks.1.attn1 1 full module", "transformer_blocks.1.attn1 1 full residual",
      "transformer_blocks.1.ff 1 mlp module",     "transformer_blocks.1.ff 1 mlp residual"};
  EXPECT_EQ(recorder.seen, want);
}

/// Keeps one point of every site and gives it back in the next call.
struct Reuser : Policy {
  explicit Reuser(Point p) : point(p) {}
  Point point;
  bool full = false;
  int reused = 0;
  std::map<std::string, Streams, std::less<>> kept;
  bool reuses(const SiteKey& key, const kinora::Run&) const override { return full && key.point == point; }
  Streams reuse(const SiteKey& key, const kinora::Run&) override {
    ++reused;
    return kept.find(key.path)->second;
  }
  void keep(const SiteKey& key, const kinora::Run&, const Streams& s) override {
    if (key.point == point) kept[std::string(key.path)] = s;
  }
};

TEST(CogVideoX, ReusingEverySiteOfTheSameCallGivesTheSameResult) {
  const auto config = tiny_cogvideox();
  const CogVideoXTransformer model(config);
  auto weights = init_weights(model.params(), 5);
  const auto in = inputs_for(config, 1, 3, 6, 10);
  for (const Point point : {Point::module, Point::residual}) {
    Reuser policy(point);
    const kinora::Run run{.weights = &weights, .policy = &policy};
    const Tensor first = model.forward(run, in);
    policy.full = true;
    EXPECT_TRUE(model.forward(run, in).equal(first));
    EXPECT_EQ(policy.reused, 4);
  }
}

TEST(CogVideoX, SamplesOfABatchDoNotMeet) {
  for (const auto& config : {tiny_cogvideox(), tiny_rotary()}) {
    const CogVideoXTransformer model(config);
    auto weights = init_weights(model.params(), 5);
    const kinora::Run run{.weights = &weights};
    auto in = inputs_for(config, 2, 2, 4, 14);
    const Tensor both = model.forward(run, in);
    EXPECT_EQ(both.sizes(), at::IntArrayRef({2, 2, 5, 4, 14}));
    for (int64_t b = 0; b < 2; ++b) {
      auto one = in;
      one.hidden_states = in.hidden_states.narrow(0, b, 1);
      one.encoder_hidden_states = in.encoder_hidden_states.narrow(0, b, 1);
      one.timestep = in.timestep.narrow(0, b, 1);
      EXPECT_LT((model.forward(run, one) - both.narrow(0, b, 1)).abs().max().item<double>(), 1e-5);
    }
  }
}

TEST(CogVideoX, GradientsReachEveryParameterAndAreFinite) {
  CogVideoXConfig with_time_patches = tiny_rotary();
  with_time_patches.patch_size_t = 2;
  with_time_patches.ofs_embed_dim = 12;
  for (const auto& config : {tiny_cogvideox(), with_time_patches}) {
    const CogVideoXTransformer model(config);
    auto weights = init_weights(model.params(), 5);
    for (Tensor& w : weights.tensors()) w.requires_grad_();
    model.forward({.weights = &weights}, inputs_for(config, 2, 4, 6, 10)).square().sum().backward();
    for (const Param& p : model.params()) {
      ASSERT_TRUE(weights.get(p).grad().defined()) << p.name;
      EXPECT_TRUE(weights.get(p).grad().isfinite().all().item<bool>()) << p.name;
    }
  }
}

TEST(CogVideoX, Bfloat16StaysNearFloat32) {
  const auto config = tiny_rotary();
  const CogVideoXTransformer model(config);
  auto wide = init_weights(model.params(), 5), narrow = init_weights(model.params(), 5, at::kBFloat16);
  auto in = inputs_for(config, 1, 3, 6, 10);
  const Tensor want = model.forward({.weights = &wide}, in);
  in.hidden_states = in.hidden_states.to(at::kBFloat16);
  in.encoder_hidden_states = in.encoder_hidden_states.to(at::kBFloat16);
  const Tensor got = model.forward({.weights = &narrow}, in);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT((got.to(at::kFloat) - want).norm().item<double>(), 0.05 * want.norm().item<double>());
}

TEST(CogVideoX, ProbesGiveWhatPoliciesLookAt) {
  struct Prober : Policy {
    Tensor modulated, time, unknown;
    Streams stack(const kinora::Run& run, const Stack& blocks, Streams streams) override {
      modulated = blocks.probe(run, "modulated_input", streams);
      time = blocks.probe(run, "time_embed", streams);
      unknown = blocks.probe(run, "weather", streams);
      return Policy::stack(run, blocks, std::move(streams));
    }
  } prober;
  const auto config = tiny_cogvideox();
  const CogVideoXTransformer model(config);
  auto weights = init_weights(model.params(), 5);
  model.forward({.weights = &weights, .policy = &prober}, inputs_for(config, 2, 3, 6, 10));
  EXPECT_EQ(prober.modulated.sizes(), at::IntArrayRef({2, 3, 15, 32}));
  EXPECT_EQ(prober.time.sizes(), at::IntArrayRef({2, 12}));
  EXPECT_FALSE(prober.unknown.defined());
}

TEST(CogVideoX, LearnedPositionsBelongToOneSize) {
  auto config = tiny_rotary();
  config.use_learned_positional_embeddings = true;
  const CogVideoXTransformer model(config);
  const Param* learned = model.params().find("patch_embed.pos_embedding");
  ASSERT_NE(learned, nullptr);
  EXPECT_EQ(learned->shape, (std::vector<int64_t>{1, 7 + 3 * 15, 32}));
  EXPECT_FALSE(model.params().options(learned->id).trainable);
  auto weights = init_weights(model.params(), 5);
  const kinora::Run run{.weights = &weights};
  const Tensor at_sample = model.forward(run, inputs_for(config, 1, 3, 6, 10));
  weights.tensors()[static_cast<size_t>(learned->id)].zero_();
  EXPECT_FALSE(model.forward(run, inputs_for(config, 1, 3, 6, 10)).equal(at_sample));
  EXPECT_TRUE(model.forward(run, inputs_for(config, 1, 2, 6, 10)).isfinite().all().item<bool>());  // the table steps in
  EXPECT_THROW(model.forward(run, inputs_for(config, 1, 3, 6, 8)), UsageError);
  auto short_text = inputs_for(config, 1, 3, 6, 10);
  short_text.encoder_hidden_states = short_text.encoder_hidden_states.narrow(1, 0, 4);
  EXPECT_THROW(model.forward(run, short_text), UsageError);
}

TEST(CogVideoX, RotaryGridFollowsTheProportionsOfTheLatent) {
  const auto config = tiny_rotary();  // the sample's grid is 3 x 5 patches
  const auto whole = rotary_positions(config, 2, 6, 10);
  const auto want = rotary_3d(at::arange(2), grid_positions(0, 3, 3), grid_positions(0, 5, 5), 16);
  EXPECT_TRUE(whole.cos.equal(want.cos));
  const auto square = rotary_positions(config, 1, 8, 8);  // fits as 3 x 3, one column from the left
  EXPECT_TRUE(square.sin.equal(rotary_3d(at::arange(1), grid_positions(0, 3, 4), grid_positions(1, 4, 4), 16).sin));
  EXPECT_FALSE(rotary_positions(tiny_cogvideox(), 1, 8, 8).cos.defined());
  auto later = config;
  later.patch_size_t = 2;
  EXPECT_TRUE(
      rotary_positions(later, 3, 4, 4).cos.equal(rotary_3d(at::arange(2), at::arange(2), at::arange(2), 16).cos));
}

TEST(CogVideoX, RefusesInputsThatDoNotFit) {
  const auto config = tiny_rotary();
  const CogVideoXTransformer model(config);
  auto weights = init_weights(model.params(), 5);
  const kinora::Run run{.weights = &weights};
  const auto refused = [&](auto change) {
    auto in = inputs_for(config, 2, 3, 6, 10);
    change(in);
    EXPECT_THROW(model.forward(run, in), UsageError);
  };
  refused([](auto& in) { in.hidden_states = in.hidden_states[0]; });
  refused([](auto& in) { in.hidden_states = in.hidden_states.narrow(2, 0, 2); });
  refused([](auto& in) { in.hidden_states = in.hidden_states.narrow(3, 0, 5); });
  refused([](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(0, 0, 1); });
  refused([](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(2, 0, 9); });
  refused([](auto& in) { in.timestep = at::zeros({3}); });
  refused([](auto& in) { in.ofs = at::zeros({2}); });
  refused([](auto& in) { in.rotary.cos = in.rotary.cos.narrow(1, 0, 4); });
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(model.forward({.weights = &weights, .cancel = stop.get_token()}, inputs_for(config, 1, 3, 6, 10)),
               CancelledError);

  auto later = config;
  later.patch_size_t = 2;
  later.ofs_embed_dim = 12;
  const CogVideoXTransformer image_model(later);
  auto image_weights = init_weights(image_model.params(), 5);
  auto in = inputs_for(later, 1, 4, 6, 10);
  in.ofs.reset();
  EXPECT_THROW(image_model.forward({.weights = &image_weights}, in), UsageError);
  EXPECT_THROW(image_model.forward({.weights = &image_weights}, inputs_for(later, 1, 3, 6, 10)), UsageError);
}

TEST(CogVideoXConfig, RefusesWhatNoModelCanBe) {
  const auto read = [](const char* text) { return CogVideoXConfig::from_json(Json::parse(text)); };
  EXPECT_EQ(read("{}").width(), 1920);
  EXPECT_EQ(read(R"({"patch_size_t": null, "ofs_embed_dim": null})").patch_frames(), 1);
  EXPECT_THROW(read(R"({"use_learned_positional_embeddings": true})"), DataError);
  EXPECT_THROW(read(R"({"attention_head_dim": 20, "use_rotary_positional_embeddings": true})"), DataError);
  EXPECT_THROW(read(R"({"sample_width": 9})"), DataError);
  EXPECT_THROW(read(R"({"ofs_embed_dim": 64})"), DataError);
  EXPECT_THROW(read(R"({"activation_fn": "tanh"})"), DataError);
  EXPECT_THROW(read(R"({"timestep_activation_fn": "tanh"})"), DataError);
  EXPECT_THROW(read(R"({"num_layers": 0})"), DataError);
}

TEST(CogVideoXFlops, CountWhatTheLayersMultiply) {
  const auto config = tiny_rotary();
  const CogVideoXTransformer model(config);
  auto weights = init_weights(model.params(), 5);
  CountingWeights counting(weights);
  model.forward({.weights = &counting}, inputs_for(config, 2, 3, 6, 10));
  const double n = 3 * 3 * 5, rows = n + 7, width = 32;
  const double patches = 2 * 2 * n * width * (3 * 4);  // not a linear layer
  const double attention = 2 * 2 * 4 * rows * rows * width;
  EXPECT_DOUBLE_EQ(cogvideox_flops(config, 3, 6, 10, 7, 2), counting.flops + patches + attention);
}

}  // namespace
}  // namespace kinora::models::cogvideox
