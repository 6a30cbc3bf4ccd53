#include "kinora/models/wan/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <stop_token>
#include <string>

#include "kinora/base/error.h"
#include "kinora/models/test_configs.h"
#include "kinora/nn/site.h"
#include "kinora/nn/test_weights.h"

namespace kinora::models::wan {
namespace {

constexpr int64_t kTextTokens = 7;

/// Features of two images, each of 3 rows, with keys of their own.
WanConfig tiny_with_images() {
  WanConfig c = tiny_wan();
  c.image_dim = 10;
  c.added_kv_proj_dim = c.width();
  c.pos_embed_seq_len = 6;
  return c;
}

WanTransformer::Inputs inputs_for(const WanConfig& c, int64_t batch, int64_t frames, int64_t height, int64_t width,
                                  at::ScalarType dtype = at::kFloat) {
  WanTransformer::Inputs in{.hidden_states = normal({batch, c.in_channels, frames, height, width}, 1).to(dtype),
                            .encoder_hidden_states = normal({batch, kTextTokens, c.text_dim}, 2).to(dtype),
                            .timestep = at::arange(batch, at::kLong) * 401 + 7};
  if (c.image_dim > 0) {
    in.encoder_hidden_states = normal({batch, 512, c.text_dim}, 2).to(dtype);
    in.encoder_hidden_states_image = normal({2 * batch, 3, c.image_dim}, 3).to(dtype);
  }
  return in;
}

struct TestWan {
  explicit TestWan(const WanConfig& config, at::ScalarType dtype = at::kFloat)
      : model(config), weights(drawn_weights(model.params(), 5, dtype)) {
    run.weights = &weights;
  }
  Tensor operator()(const WanTransformer::Inputs& in) const { return model.forward(run, in); }
  Tensor operator()(const WanTransformer::Inputs& in, Policy& policy) const {
    kinora::Run watched = run;
    watched.policy = &policy;
    return model.forward(watched, in);
  }

  WanTransformer model;
  ResidentWeights weights;
  kinora::Run run;
};

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

/// Notes every site; changes nothing.
struct Recorder : Policy {
  std::vector<std::string> seen;
  void keep(const SiteKey& key, const kinora::Run&, const Streams& streams) override {
    EXPECT_EQ(streams.size(), 1u);
    const std::map<Kind, const char*> kinds{{Kind::full, "full"}, {Kind::cross, "cross"}, {Kind::mlp, "mlp"}};
    const char* const point = key.point == Point::module ? "module" : "residual";
    seen.push_back(concat(key.path, " ", key.block, " ", kinds.at(key.kind), " ", point));
  }
};

TEST(Wan, SitesComeInOrderTheModuleInsideTheResidualAndChangeNothing) {
  const TestWan wan(tiny_wan());
  const auto in = inputs_for(wan.model.config(), 2, 3, 6, 10);
  Recorder recorder;
  EXPECT_TRUE(wan(in, recorder).equal(wan(in)));
  const std::vector<std::string> want{
      "blocks.0.attn1 0 full module",    "blocks.0.attn1 0 full residual", "blocks.0.attn2 0 cross module",
      "blocks.0.attn2 0 cross residual", "blocks.0.ffn 0 mlp module",      "blocks.0.ffn 0 mlp residual",
      "blocks.1.attn1 1 full module",    "blocks.1.attn1 1 full residual", "blocks.1.attn2 1 cross module",
      "blocks.1.attn2 1 cross residual", "blocks.1.ffn 1 mlp module",      "blocks.1.ffn 1 mlp residual"};
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

TEST(Wan, ReusingEverySiteOfTheSameCallGivesTheSameResult) {
  const TestWan wan(tiny_with_images());
  const auto in = inputs_for(wan.model.config(), 1, 3, 6, 10);
  for (const Point point : {Point::module, Point::residual}) {
    Reuser policy(point);
    const Tensor first = wan(in, policy);
    policy.full = true;
    EXPECT_TRUE(wan(in, policy).equal(first));
    EXPECT_EQ(policy.reused, 6);
  }
}

TEST(Wan, SamplesOfABatchDoNotMeet) {
  for (const auto& config : {tiny_wan(), tiny_with_images()}) {
    const TestWan wan(config);
    const auto in = inputs_for(config, 2, 2, 4, 14);
    const Tensor both = wan(in);
    EXPECT_EQ(both.sizes(), at::IntArrayRef({2, 5, 2, 4, 14}));
    for (int64_t b = 0; b < 2; ++b) {
      auto one = in;
      one.hidden_states = in.hidden_states.narrow(0, b, 1);
      one.encoder_hidden_states = in.encoder_hidden_states.narrow(0, b, 1);
      one.timestep = in.timestep.narrow(0, b, 1);
      if (config.image_dim > 0) one.encoder_hidden_states_image = in.encoder_hidden_states_image.narrow(0, 2 * b, 2);
      EXPECT_LT(distance(wan(one), both.narrow(0, b, 1)), 1e-5);
    }
  }
}

TEST(Wan, TimestepsOfRowsThatAreAllEqualAreOneTimestep) {
  const TestWan wan(tiny_wan(), at::kDouble);
  auto in = inputs_for(wan.model.config(), 2, 3, 4, 6, at::kDouble);
  const Tensor want = wan(in);
  in.timestep = in.timestep.unsqueeze(1).repeat({1, 3 * 2 * 3});
  EXPECT_LT(distance(wan(in), want), 1e-12);
  in.timestep.narrow(1, 0, 6).zero_();  // the first frame is given
  EXPECT_GT(distance(wan(in), want), 1e-3);
}

TEST(Wan, EveryRowOfTextAndImageTakesPart) {
  const TestWan wan(tiny_with_images(), at::kDouble);
  auto in = inputs_for(wan.model.config(), 1, 2, 4, 4, at::kDouble);
  const Tensor want = wan(in);
  for (const int64_t token : {0, 511}) {
    auto other = in;
    other.encoder_hidden_states = in.encoder_hidden_states.clone();
    other.encoder_hidden_states.select(1, token).zero_();
    EXPECT_GT(distance(wan(other), want), 1e-6) << token;
  }
  in.encoder_hidden_states_image = in.encoder_hidden_states_image.flip(0);  // positions tell the frames apart
  EXPECT_GT(distance(wan(in), want), 1e-6);
}

TEST(Wan, GradientsReachEveryParameterAndAreFinite) {
  for (const auto& config : {tiny_wan(), tiny_with_images()}) {
    for (const bool of_rows : {false, true}) {
      TestWan wan(config);
      for (Tensor& w : wan.weights.tensors()) w.requires_grad_();
      auto in = inputs_for(config, 2, 2, 4, 6);
      if (of_rows) in.timestep = at::arange(2 * 12, at::kLong).view({2, 12});
      wan(in).square().sum().backward();
      for (const Param& p : wan.model.params()) {
        ASSERT_TRUE(wan.weights.get(p).grad().defined()) << p.name;
        EXPECT_TRUE(wan.weights.get(p).grad().isfinite().all().item<bool>()) << p.name;
      }
    }
  }
}

TEST(Wan, Bfloat16StaysNearFloat32) {
  const TestWan wide(tiny_wan()), narrow(tiny_wan(), at::kBFloat16);
  const auto& config = wide.model.config();
  const Tensor want = wide(inputs_for(config, 1, 3, 6, 10));
  const Tensor got = narrow(inputs_for(config, 1, 3, 6, 10, at::kBFloat16));
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT((got.to(at::kFloat) - want).norm().item<double>(), 0.05 * want.norm().item<double>());
}

TEST(Wan, ProbesGiveWhatPoliciesLookAt) {
  struct Prober : Policy {
    std::map<std::string, Tensor> got;
    Streams stack(const kinora::Run& run, const Stack& blocks, Streams streams) override {
      for (const char* name : {"modulated_input", "time_embed", "time_projection", "weather"}) {
        got[name] = blocks.probe(run, name, streams);
      }
      return Policy::stack(run, blocks, std::move(streams));
    }
  } prober;
  const TestWan wan(tiny_wan());
  auto in = inputs_for(wan.model.config(), 2, 3, 6, 10);
  wan(in, prober);
  EXPECT_EQ(prober.got["modulated_input"].sizes(), at::IntArrayRef({2, 3, 15, 32}));
  EXPECT_EQ(prober.got["time_embed"].sizes(), at::IntArrayRef({2, 32}));
  EXPECT_EQ(prober.got["time_projection"].sizes(), at::IntArrayRef({2, 6 * 32}));
  EXPECT_FALSE(prober.got["weather"].defined());
  in.timestep = at::zeros({2, 45}, at::kLong);
  wan(in, prober);
  EXPECT_EQ(prober.got["time_projection"].sizes(), at::IntArrayRef({2, 3, 15, 6 * 32}));
}

TEST(Wan, RotaryTableEqualsTheNaiveOne) {
  const RotaryTable table = rotary_positions(20, 2, 3, 5);  // pairs: 4 of frames, 3 of rows, 3 of columns
  ASSERT_EQ(table.cos.sizes(), at::IntArrayRef({2, 15, 10}));
  const auto angle = [](int64_t position, int64_t i, int64_t width) {
    return static_cast<double>(position) *
           std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(width));
  };
  for (int64_t t = 0; t < 2; ++t) {
    for (int64_t s = 0; s < 15; ++s) {
      for (int64_t i = 0; i < 10; ++i) {
        const double want = i < 4 ? angle(t, i, 8) : i < 7 ? angle(s / 5, i - 4, 6) : angle(s % 5, i - 7, 6);
        ASSERT_NEAR(table.cos[t][s][i].item<double>(), std::cos(want), 1e-6) << t << " " << s << " " << i;
        ASSERT_NEAR(table.sin[t][s][i].item<double>(), std::sin(want), 1e-6) << t << " " << s << " " << i;
      }
    }
  }
}

TEST(Wan, RefusesInputsThatDoNotFit) {
  const TestWan wan(tiny_wan());
  const auto refused = [](const TestWan& by, auto change) {
    auto in = inputs_for(by.model.config(), 2, 3, 6, 10);
    change(in);
    EXPECT_THROW(by(in), UsageError);
  };
  refused(wan, [](auto& in) { in.hidden_states = in.hidden_states[0]; });
  refused(wan, [](auto& in) { in.hidden_states = in.hidden_states.narrow(1, 0, 2); });
  refused(wan, [](auto& in) { in.hidden_states = in.hidden_states.narrow(3, 0, 5); });
  refused(wan, [](auto& in) { in.hidden_states = in.hidden_states.repeat({1, 1, 1, 1, 4}); });  // 20 columns of 16
  refused(wan, [](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(0, 0, 1); });
  refused(wan, [](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(2, 0, 9); });
  refused(wan, [](auto& in) { in.timestep = at::zeros({3}); });
  refused(wan, [](auto& in) { in.timestep = at::zeros({2, 44}); });
  refused(wan, [](auto& in) { in.encoder_hidden_states_image = at::zeros({4, 3, 10}); });

  const TestWan from_images(tiny_with_images());
  refused(from_images, [](auto& in) { in.encoder_hidden_states_image.reset(); });
  refused(from_images,
          [](auto& in) { in.encoder_hidden_states_image = in.encoder_hidden_states_image.narrow(1, 0, 2); });
  refused(from_images,
          [](auto& in) { in.encoder_hidden_states_image = in.encoder_hidden_states_image.narrow(2, 0, 9); });
  refused(from_images, [](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(1, 0, 250); });

  std::stop_source stop;
  stop.request_stop();
  kinora::Run stopped = wan.run;
  stopped.cancel = stop.get_token();
  EXPECT_THROW(wan.model.forward(stopped, inputs_for(wan.model.config(), 1, 3, 6, 10)), CancelledError);
}

TEST(WanConfig, RefusesWhatNoModelCanBe) {
  const auto read = [](const char* text) { return WanConfig::from_json(Json::parse(text)); };
  EXPECT_EQ(read("{}").width(), 5120);
  EXPECT_EQ(read(R"({"in_channels": 36, "out_channels": null, "image_dim": null})").out_channels, 36);
  EXPECT_EQ(read(R"({"image_dim": 1280, "added_kv_proj_dim": 5120, "pos_embed_seq_len": 514})").image_dim, 1280);
  EXPECT_THROW(read(R"({"patch_size": [2, 2]})"), DataError);
  EXPECT_THROW(read(R"({"attention_head_dim": 15})"), DataError);
  EXPECT_THROW(read(R"({"added_kv_proj_dim": 5120})"), DataError);
  EXPECT_THROW(read(R"({"image_dim": 1280, "added_kv_proj_dim": 1280})"), DataError);
  EXPECT_THROW(read(R"({"pos_embed_seq_len": 514})"), DataError);
  EXPECT_THROW(read(R"({"qk_norm": "layer_norm"})"), DataError);
  EXPECT_THROW(read(R"({"num_layers": 0})"), DataError);
}

TEST(WanFlops, CountWhatTheLayersMultiply) {
  for (const auto& config : {tiny_wan(), tiny_with_images()}) {
    TestWan wan(config);
    CountingWeights counting(wan.weights);
    wan.run.weights = &counting;
    const auto in = inputs_for(config, 2, 3, 6, 10);
    wan(in);
    const int64_t text = in.encoder_hidden_states.size(1), image = config.image_dim > 0 ? 6 : 0;
    const double n = 3 * 3 * 5, keys = n + static_cast<double>(text + image), width = 32;
    const double patches = 2 * 2 * n * width * (3 * 4);  // not a linear layer
    const double attention = 2 * 2 * 4 * n * keys * width;
    EXPECT_DOUBLE_EQ(wan_flops(config, 3, 6, 10, text, 2, image), counting.flops + patches + attention);
  }
}

}  // namespace
}  // namespace kinora::models::wan
