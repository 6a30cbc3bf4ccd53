#include "kinora/text/t5.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <stop_token>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/nn/load.h"
#include "kinora/nn/test_weights.h"
#include "kinora/tensor/convert.h"
#include "kinora/tensor/test_values.h"
#include "kinora/text/test_configs.h"

namespace kinora::text {
namespace {

Tensor ids_of(int64_t batch, int64_t length) {
  return (at::arange(batch * length).view({batch, length}) * 7 + 3).remainder(37);
}

double max_difference(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(T5, PaddingChangesNoResultOfTheOtherTokens) {
  for (const bool per_layer : {false, true}) {
    T5Config config = tiny_t5();
    config.bias_per_layer = per_layer;
    const T5Encoder encoder(config);
    auto weights = init_weights(encoder.params(), 3);
    const kinora::Run run{.weights = &weights};
    const Tensor ids = ids_of(1, 7);
    const Tensor alone = encoder.forward(run, ids);
    for (const int64_t width : {7, 8, 19, 130}) {
      Tensor padded = at::zeros({1, width}, at::kLong);
      padded.narrow(1, 0, 7).copy_(ids);
      const Tensor got = encoder.forward(run, padded, prefix_mask({7}, width)).narrow(1, 0, 7);
      EXPECT_LT(max_difference(got, alone), 1e-5) << width;
    }
  }
}

TEST(T5, SamplesOfABatchWithDifferentLengthsDoNotMeet) {
  const T5Encoder encoder(tiny_t5());
  auto weights = init_weights(encoder.params(), 3);
  const kinora::Run run{.weights = &weights};
  const std::vector<int64_t> lengths{1, 13, 6};
  const Tensor ids = ids_of(3, 13);
  const Tensor together = encoder.forward(run, ids, prefix_mask(lengths, 13));
  for (int64_t b = 0; b < 3; ++b) {
    const int64_t length = lengths[static_cast<size_t>(b)];
    const Tensor alone = encoder.forward(run, ids.narrow(0, b, 1).narrow(1, 0, length));
    EXPECT_LT(max_difference(together.narrow(0, b, 1).narrow(1, 0, length), alone), 1e-5) << b;
  }
}

TEST(T5, ASampleWithoutAnyTokenStaysFinite) {
  const T5Encoder encoder(tiny_t5());
  auto weights = init_weights(encoder.params(), 3);
  const kinora::Run run{.weights = &weights};
  EXPECT_TRUE(encoder.forward(run, ids_of(2, 5), prefix_mask({0, 5}, 5)).isfinite().all().item<bool>());
}

TEST(T5, Bfloat16StaysNearFloat32) {
  const T5Encoder encoder(tiny_t5());
  auto wide = init_weights(encoder.params(), 3);
  auto narrow = init_weights(encoder.params(), 3, at::kBFloat16);
  const Tensor ids = ids_of(2, 11), mask = prefix_mask({11, 4}, 11);
  const Tensor want = encoder.forward({.weights = &wide}, ids, mask);
  const Tensor got = encoder.forward({.weights = &narrow}, ids, mask);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT((got.to(at::kFloat) - want).norm().item<double>(), 0.03 * want.norm().item<double>());
}

TEST(T5, GradientsReachEveryParameterAndAreFinite) {
  for (const bool gated : {false, true}) {
    T5Config config = tiny_t5();
    config.gated = gated;
    config.bias_per_layer = gated;
    const T5Encoder encoder(config);
    auto weights = init_weights(encoder.params(), 3);
    for (Tensor& w : weights.tensors()) w.requires_grad_();
    encoder.forward({.weights = &weights}, ids_of(2, 9), prefix_mask({9, 4}, 9)).square().sum().backward();
    for (const Param& p : encoder.params()) {
      const Tensor gradient = weights.get(p).grad();
      ASSERT_TRUE(gradient.defined()) << p.name;
      EXPECT_TRUE(gradient.isfinite().all().item<bool>()) << p.name;
      EXPECT_GT(gradient.abs().max().item<double>(), 0) << p.name;
    }
  }
}

TEST(T5, HiddenStatesEndWithTheLastHiddenState) {
  const T5Encoder encoder(tiny_t5());
  auto weights = init_weights(encoder.params(), 3);
  const kinora::Run run{.weights = &weights};
  const auto states = encoder.hidden_states(run, ids_of(1, 5));
  ASSERT_EQ(states.size(), 4u);
  EXPECT_TRUE(states.back().equal(encoder.forward(run, ids_of(1, 5))));
  EXPECT_TRUE(states[0].equal(at::embedding(weights.tensors()[0], ids_of(1, 5))));
}

TEST(T5, ParametersHaveThePublishedNames) {
  T5Config config = tiny_t5();
  const T5Encoder gated(config);
  EXPECT_EQ(gated.params()[0].name, "shared.weight");
  EXPECT_EQ(gated.params().options(0).aliases, std::vector<std::string>{"encoder.embed_tokens.weight"});
  EXPECT_NE(gated.params().find("encoder.block.2.layer.1.DenseReluDense.wi_1.weight"), nullptr);
  EXPECT_NE(gated.params().find("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"), nullptr);
  EXPECT_EQ(gated.params().find("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"), nullptr);
  EXPECT_NE(gated.params().find("encoder.final_layer_norm.weight"), nullptr);
  config.gated = false;
  config.bias_per_layer = true;
  const T5Encoder plain(config);
  EXPECT_NE(plain.params().find("encoder.block.0.layer.1.DenseReluDense.wi.weight"), nullptr);
  EXPECT_NE(plain.params().find("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"), nullptr);
}

TEST(T5, CheckpointsMayNameTheTiedEmbeddingEitherWayOrBoth) {
  const T5Encoder encoder(tiny_t5());
  const auto weights = init_weights(encoder.params(), 3);
  const std::string shared = "shared.weight", tied = "encoder.embed_tokens.weight";
  const TempFolder folder;
  const auto path = folder / "t5.safetensors";
  for (const auto& names : {std::vector{shared}, std::vector{tied}, std::vector{shared, tied}}) {
    NamedTensors tensors;
    auto source = weights;
    for (const Param& p : encoder.params()) {
      if (p.name != shared) tensors.emplace_back(p.name, source.get(p));
    }
    for (const auto& name : names) tensors.emplace_back(name, source.get(encoder.params()[0]));
    save_tensors(path, tensors);
    auto loaded = load_weights(encoder.params(), Checkpoint(path));
    EXPECT_TRUE(loaded.tensors()[0].equal(source.tensors()[0]));
  }
}

TEST(T5, BucketsAreExactThenLogarithmicThenOne) {
  const Tensor distance = at::tensor({0, -1, 1, -7, 7, -8, 8, -127, 127, -1000, 1000}, at::kLong);
  const Tensor want = at::tensor({0, 1, 17, 7, 23, 8, 24, 15, 31, 15, 31}, at::kLong);
  EXPECT_TRUE(relative_position_bucket(distance, true, 32, 128).equal(want));
  const Tensor causal = relative_position_bucket(at::tensor({5, 0, -3, -15, -2000}, at::kLong), false, 32, 128);
  EXPECT_TRUE(causal.equal(at::tensor({0, 0, 3, 15, 31}, at::kLong)));
}

TEST(T5Config, ReadsTheFeedForwardWordAndTheModelType) {
  const auto read = [](const char* text) { return T5Config::from_json(Json::parse(text)); };
  EXPECT_FALSE(read("{}").gated);
  EXPECT_EQ(read("{}").activation, ops::Activation::relu);
  EXPECT_TRUE(read(R"({"feed_forward_proj": "gated-gelu"})").gated);
  EXPECT_EQ(read(R"({"feed_forward_proj": "gated-gelu"})").activation, ops::Activation::gelu_tanh);
  EXPECT_EQ(read(R"({"feed_forward_proj": "gelu"})").activation, ops::Activation::gelu);
  EXPECT_EQ(read(R"({"feed_forward_proj": "gated-silu"})").activation, ops::Activation::silu);
  EXPECT_TRUE(read(R"({"model_type": "mt5"})").gated);
  EXPECT_FALSE(read(R"({"model_type": "mt5"})").bias_per_layer);
  EXPECT_TRUE(read(R"({"model_type": "umt5"})").bias_per_layer);
  EXPECT_TRUE(read(R"({"model_type": "t5", "architectures": ["UMT5EncoderModel"]})").bias_per_layer);
  EXPECT_EQ(read(R"({"d_kv": 7, "relative_attention_max_distance": 40})").d_kv, 7);
}

TEST(T5Config, RefusesWhatIsNoT5) {
  const auto read = [](const char* text) { return T5Config::from_json(Json::parse(text)); };
  EXPECT_THROW(read(R"({"model_type": "clip"})"), DataError);
  EXPECT_THROW(read(R"({"feed_forward_proj": "gated-tanh"})"), DataError);
  EXPECT_THROW(read(R"({"num_layers": 0})"), DataError);
  EXPECT_THROW(read(R"({"relative_attention_max_distance": 8})"), DataError);
  EXPECT_THROW(read(R"({"relative_attention_num_buckets": 1024})"), DataError);  // of 128 positions by default
  EXPECT_EQ(read(R"({"relative_attention_num_buckets": 508})").max_distance, 128);
  for (const char* epsilon : {"0", "-1e-6"})
    EXPECT_THROW(read(concat("{\"layer_norm_epsilon\": ", epsilon, "}").c_str()), DataError) << epsilon;
  EXPECT_THROW(read("[]"), DataError);
}

TEST(T5, RefusesInputsThatDoNotFit) {
  const T5Encoder encoder(tiny_t5());
  auto weights = init_weights(encoder.params(), 3);
  const kinora::Run run{.weights = &weights};
  EXPECT_THROW(encoder.forward(run, ids_of(1, 5).view({5})), UsageError);
  EXPECT_THROW(encoder.forward(run, ids_of(1, 5).to(at::kInt)), UsageError);
  EXPECT_THROW(encoder.forward(run, ids_of(1, 5), prefix_mask({5}, 6)), UsageError);
  EXPECT_THROW(encoder.forward(run, ids_of(1, 5) + 40), UsageError);
  EXPECT_THROW(encoder.forward(run, ids_of(1, 5) - 40), UsageError);
  std::stop_source stop;
  stop.request_stop();
  const kinora::Run cancelled{.weights = &weights, .cancel = stop.get_token()};
  EXPECT_THROW(encoder.forward(cancelled, ids_of(1, 5)), CancelledError);
}

TEST(T5Flops, CountWhatTheLayersMultiply) {
  for (const bool gated : {false, true}) {
    T5Config config = tiny_t5();
    config.gated = gated;
    const T5Encoder encoder(config);
    auto weights = init_weights(encoder.params(), 3);
    CountingWeights counting(weights);
    encoder.forward({.weights = &counting}, ids_of(2, 11));
    const double attention = 2 * 3 * 4 * 11 * 11 * 15;
    EXPECT_DOUBLE_EQ(t5_flops(config, 11, 2), counting.flops + attention);
  }
}

}  // namespace
}  // namespace kinora::text
