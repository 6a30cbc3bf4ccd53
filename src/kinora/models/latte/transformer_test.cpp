#include "kinora/models/latte/transformer.h"

#include <gtest/gtest.h>

#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/models/test_configs.h"
#include "kinora/nn/test_weights.h"

namespace kinora::models::latte {
namespace {

/// The tiny model on drawn weights, and what goes in: two samples of 3 frames of 2 x 3 patches, 6 tokens.
struct TestLatte {
  explicit TestLatte(const LatteConfig& config = tiny_latte(), at::ScalarType type = at::kDouble)
      : model(config), weights(drawn_weights(model.params(), 7, type)), dtype(type) {
    run.weights = &weights;
  }
  Tensor operator()(const LatteTransformer::Inputs& in) const { return model.forward(run, in); }
  LatteTransformer::Inputs inputs(int64_t batch = 2, int64_t frames = 3) const {
    return {.hidden_states = normal({batch, 3, frames, 4, 6}, 1).to(dtype),
            .timestep = at::arange(batch, at::kLong) * 401 + 7,
            .encoder_hidden_states = normal({batch, 6, 14}, 2).to(dtype)};
  }

  LatteTransformer model;
  ResidentWeights weights;
  at::ScalarType dtype;
  kinora::Run run;
};

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

/// Two ways to one value in float64, and two values that differ.
constexpr double kRounding = 1e-12, kVisible = 1e-4;

/// Writes down every site; gives back what it kept of one point where `reusing`.
struct Recorder : Policy {
  explicit Recorder(Point p) : point(p) {}
  Point point;
  bool reusing = false;
  int reused = 0;
  std::vector<std::string> seen;
  std::map<std::string, Streams, std::less<>> kept;
  bool reuses(const SiteKey& key, const kinora::Run&) const override { return reusing && key.point == point; }
  Streams reuse(const SiteKey& key, const kinora::Run&) override {
    ++reused;
    return kept.find(key.path)->second;
  }
  void keep(const SiteKey& key, const kinora::Run&, const Streams& streams) override {
    EXPECT_EQ(streams.size(), 1u);
    const char* const kinds[] = {"spatial", "temporal", "full", "cross", "mlp"};
    const char* const at = key.point == Point::module ? " module" : " residual";
    seen.push_back(concat(key.path, " ", key.block, " ", kinds[static_cast<size_t>(key.kind)], at));
    if (key.point == point) kept[std::string(key.path)] = streams;
  }
};

TEST(Latte, SitesComeInOrderTheModuleInsideTheResidualAndChangeNothing) {
  TestLatte latte;
  const Tensor want = latte(latte.inputs());
  Recorder recorder(Point::residual);
  latte.run.policy = &recorder;
  EXPECT_TRUE(latte(latte.inputs()).equal(want));
  std::vector<std::string> order;
  for (const std::string i : {"0", "1"}) {
    const std::string spatial = "transformer_blocks." + i, at = std::to_string(2 * std::stoi(i));
    const std::string temporal = "temporal_transformer_blocks." + i, next = std::to_string(2 * std::stoi(i) + 1);
    for (const std::string& site :
         {spatial + ".attn1 " + at + " spatial", spatial + ".attn2 " + at + " cross", spatial + ".ff " + at + " mlp",
          temporal + ".attn1 " + next + " temporal", temporal + ".ff " + next + " mlp"}) {
      order.push_back(site + " module");
      order.push_back(site + " residual");
    }
  }
  EXPECT_EQ(recorder.seen, order);
}

TEST(Latte, ReusingEverySiteOfTheSameCallGivesTheSameResult) {
  for (const Point point : {Point::module, Point::residual}) {
    TestLatte latte;
    Recorder policy(point);
    latte.run.policy = &policy;
    const Tensor first = latte(latte.inputs());
    policy.reusing = true;
    EXPECT_TRUE(latte(latte.inputs()).equal(first));
    EXPECT_EQ(policy.reused, 10);
  }
}

TEST(Latte, PoliciesSeeProbesAndAllThatBlocksRead) {
  struct Prober : Policy {
    Tensor modulated, time, unknown;
    Stack blocks;
    Streams stack(const kinora::Run& run, const Stack& stack, Streams streams) override {
      modulated = stack.probe(run, "modulated_input", streams);
      time = stack.probe(run, "time_embed", streams);
      unknown = stack.probe(run, "weather", streams);
      blocks = stack;
      return Policy::stack(run, stack, std::move(streams));
    }
  } prober;
  TestLatte latte;
  latte.run.policy = &prober;
  auto in = latte.inputs();
  in.encoder_attention_mask = prefix_mask({6, 4}, 6);
  latte(in);
  EXPECT_EQ(prober.modulated.sizes(), at::IntArrayRef({2, 3, 6, 16}));
  EXPECT_EQ(prober.time.sizes(), at::IntArrayRef({2, 16}));
  EXPECT_FALSE(prober.unknown.defined());
  EXPECT_EQ(prober.blocks.blocks, 4);
  EXPECT_EQ(prober.blocks.extent.frames, 3);
  EXPECT_EQ(prober.blocks.extent.rows, 6);
  const std::vector<std::vector<int64_t>> sizes{{2, 6, 16}, {2, 6, 16}, {2, 1, 1, 6}, {1, 3, 1, 16}};
  ASSERT_EQ(prober.blocks.conditioning.size(), sizes.size());  // time, text, its mask, positions of frames
  for (size_t i = 0; i < sizes.size(); ++i) EXPECT_EQ(prober.blocks.conditioning[i].sizes(), sizes[i]) << i;
}

TEST(Latte, AsksItsLayoutForTheAxisThatAttends) {
  struct Counting : Layout {
    mutable std::vector<Axis> axes;
    mutable int locals = 0, wholes = 0;
    Tensor local(const Tensor& whole, Axis, int) const override { return ++locals, whole; }
    Tensor whole(const Tensor& local, Axis, int, const Extent&) const override { return ++wholes, local; }
    Streams around(const kinora::Run& run, const Bracket& bracket, Streams streams,
                   c10::function_ref<Streams(const kinora::Run&, Streams)> f) const override {
      EXPECT_EQ(bracket.extent.of(*bracket.along), *bracket.along == Axis::rows ? 6 : 3);
      if (bracket.part == Part::attention) axes.push_back(*bracket.along);
      return f(run, std::move(streams));
    }
  } layout;
  TestLatte latte;
  latte.run.layout = &layout;
  latte(latte.inputs());
  EXPECT_EQ(layout.axes, std::vector<Axis>({Axis::rows, Axis::frames, Axis::rows, Axis::frames}));
  EXPECT_EQ(layout.locals, 3);  // rows and frames of the patches, positions of frames
  EXPECT_EQ(layout.wholes, 2);
}

TEST(Latte, SamplesOfABatchDoNotMeet) {
  const TestLatte latte;
  auto in = latte.inputs();
  in.encoder_attention_mask = prefix_mask({6, 4}, 6);
  const Tensor both = latte(in);
  EXPECT_EQ(both.sizes(), at::IntArrayRef({2, 5, 3, 4, 6}));
  for (int64_t b = 0; b < 2; ++b) {
    auto one = in;
    for (Tensor* t : {&one.hidden_states, &one.encoder_hidden_states, &one.timestep, &one.encoder_attention_mask})
      *t = t->narrow(0, b, 1);
    EXPECT_LT(distance(latte(one), both.narrow(0, b, 1)), kRounding);
  }
  in.timestep = at::full({1}, 7, at::kLong);  // one time for all
  EXPECT_LT(distance(latte(in).narrow(0, 0, 1), both.narrow(0, 0, 1)), kRounding);
}

TEST(Latte, FramesMeetInTemporalAttentionOnly) {
  const TestLatte latte;
  auto in = latte.inputs();
  const Tensor together = latte(in);
  in.enable_temporal_attentions = false;
  const Tensor apart = latte(in);
  EXPECT_GT(distance(together, apart), kVisible);
  for (int64_t f = 0; f < 3; ++f) {
    auto one = in;
    one.hidden_states = in.hidden_states.narrow(2, f, 1);
    EXPECT_LT(distance(latte(one), apart.narrow(2, f, 1)), kRounding);
  }
}

TEST(Latte, FramesAreToldApartByTheirPositions) {
  const TestLatte latte;
  auto in = latte.inputs();
  in.hidden_states = in.hidden_states.narrow(2, 0, 1).expand({2, 3, 3, 4, 6});
  const Tensor still = latte(in);
  EXPECT_GT(distance(still.select(2, 0), still.select(2, 1)), kVisible);
  in.enable_temporal_attentions = false;
  const Tensor apart = latte(in);
  EXPECT_LT(distance(apart.select(2, 0), apart.select(2, 1)), kRounding);
}

TEST(Latte, MaskedTokensAreLikeNone) {
  const TestLatte latte;
  auto in = latte.inputs(1);
  const Tensor unmasked = latte(in);
  auto cut = in;
  cut.encoder_hidden_states = in.encoder_hidden_states.narrow(1, 0, 4);
  const Tensor want = latte(cut);
  in.encoder_attention_mask = prefix_mask({4}, 6);
  EXPECT_LT(distance(latte(in), want), kRounding);
  EXPECT_GT(distance(unmasked, want), kVisible);
  in.encoder_attention_mask = prefix_mask({0}, 6);  // as if all took part
  EXPECT_LT(distance(latte(in), unmasked), 1e-9);
}

TEST(Latte, MaskMayDifferFromFrameToFrame) {
  const TestLatte latte;
  auto in = latte.inputs();
  in.enable_temporal_attentions = false;
  const std::vector<int64_t> lengths{6, 2, 4, 1, 3, 5};  // two samples of three frames
  in.encoder_attention_mask = ((1 - prefix_mask(lengths, 6)) * -10000.0).unsqueeze(1);
  const Tensor got = latte(in);
  for (int64_t f = 0; f < 3; ++f) {
    auto one = in;
    one.hidden_states = in.hidden_states.narrow(2, f, 1);
    one.encoder_attention_mask = prefix_mask({lengths[f], lengths[3 + f]}, 6);
    EXPECT_LT(distance(latte(one), got.narrow(2, f, 1)), kRounding);
  }
}

TEST(Latte, GradientsReachEveryParameterAndAreFinite) {
  LatteConfig with_norms = tiny_latte();
  with_norms.norm_elementwise_affine = true;
  with_norms.feed_forward = feed_forward_form("geglu", "test");
  for (const auto& config : {tiny_latte(), with_norms}) {
    TestLatte latte(config);
    for (Tensor& w : latte.weights.tensors()) w.requires_grad_();
    latte(latte.inputs()).square().sum().backward();
    for (const Param& p : latte.model.params()) {
      ASSERT_TRUE(latte.weights.get(p).grad().defined()) << p.name;
      EXPECT_TRUE(latte.weights.get(p).grad().isfinite().all().item<bool>()) << p.name;
    }
  }
}

TEST(Latte, Bfloat16StaysNearFloat32) {
  const TestLatte wide(tiny_latte(), at::kFloat), narrow(tiny_latte(), at::kBFloat16);
  const Tensor want = wide(wide.inputs()), got = narrow(narrow.inputs());
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT((got.to(at::kFloat) - want).norm().item<double>(), 0.05 * want.norm().item<double>());
}

TEST(Latte, RefusesInputsThatDoNotFit) {
  TestLatte latte;
  const auto refused = [&](auto change) {
    auto in = latte.inputs();
    change(in);
    EXPECT_THROW(latte(in), UsageError);
  };
  refused([](auto& in) { in.hidden_states = in.hidden_states[0]; });
  refused([](auto& in) { in.hidden_states = in.hidden_states.narrow(1, 0, 2); });
  refused([](auto& in) { in.hidden_states = in.hidden_states.narrow(3, 0, 3); });
  refused([](auto& in) { in.hidden_states = in.hidden_states.narrow(4, 0, 5); });
  refused([](auto& in) { in.hidden_states = in.hidden_states.narrow(2, 0, 0); });
  refused([](auto& in) { in.hidden_states = in.hidden_states.repeat({1, 1, 2, 1, 1}); });  // 6 frames of at most 5
  refused([](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(0, 0, 1); });
  refused([](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(1, 0, 0); });
  refused([](auto& in) { in.encoder_hidden_states = in.encoder_hidden_states.narrow(2, 0, 9); });
  refused([](auto& in) { in.timestep = at::zeros({3}); });
  refused([](auto& in) { in.encoder_attention_mask = at::ones({2, 5}); });
  refused([](auto& in) { in.encoder_attention_mask = at::ones({3, 6}); });
  refused([](auto& in) { in.encoder_attention_mask = at::zeros({3, 1, 6}); });
  refused([](auto& in) { in.encoder_attention_mask = at::zeros({2, 2, 6}); });
  std::stop_source stop;
  stop.request_stop();
  latte.run.cancel = stop.get_token();
  EXPECT_THROW(latte(latte.inputs()), CancelledError);
}

TEST(LatteConfig, RefusesWhatNoLatteCanBe) {
  const Json whole = Json::parse(R"({"num_attention_heads": 2, "attention_head_dim": 6, "in_channels": 4,
    "patch_size": 2, "caption_channels": 8, "cross_attention_dim": 12, "norm_type": "ada_norm_single"})");
  const auto read = [&](const char* changes) {
    Json json = whole;
    json.merge_patch(Json::parse(changes));
    return LatteConfig::from_json(json);
  };
  EXPECT_EQ(read("{}").out_channels, 4);
  EXPECT_EQ(read(R"({"out_channels": 8})").out_channels, 8);
  EXPECT_TRUE(read("{}").feed_forward.gated);
  EXPECT_EQ(read(R"({"sample_size": 127})").interpolation_scale(), 1);
  EXPECT_EQ(read(R"({"sample_size": 128})").interpolation_scale(), 2);
  for (const char* missing : {"in_channels", "patch_size", "caption_channels", "cross_attention_dim", "norm_type"})
    EXPECT_THROW(read(Json({{missing, nullptr}}).dump().c_str()), DataError) << missing;
  EXPECT_THROW(read(R"({"norm_type": "layer_norm"})"), DataError);
  EXPECT_THROW(read(R"({"cross_attention_dim": 16})"), DataError);
  EXPECT_THROW(read(R"({"num_attention_heads": 1, "cross_attention_dim": 6})"), DataError);
  EXPECT_THROW(read(R"({"sample_size": 1})"), DataError);
  EXPECT_THROW(read(R"({"activation_fn": "tanh"})"), DataError);
  EXPECT_THROW(read(R"({"num_layers": 0})"), DataError);
}

TEST(LatteFlops, CountWhatTheLayersMultiply) {
  for (const bool gated : {false, true}) {
    LatteConfig config = tiny_latte();
    config.feed_forward.gated = gated;
    TestLatte latte(config);
    CountingWeights counting(latte.weights);
    latte.run.weights = &counting;
    latte(latte.inputs());
    const double n = 3 * 6, keys = 6 + 3 + 6, width = 16;    // of 3 frames of 6 patches, 6 tokens
    const double patches = 2 * 2 * n * width * (2 * 2 * 3);  // not a linear layer
    const double attention = 2 * 2 * 4 * n * keys * width;   // batch, pairs of blocks
    EXPECT_DOUBLE_EQ(latte_flops(config, 3, 4, 6, 6, 2), counting.flops + patches + attention);
  }
}

}  // namespace
}  // namespace kinora::models::latte
