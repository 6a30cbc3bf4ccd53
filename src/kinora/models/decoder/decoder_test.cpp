#include "kinora/models/decoder/decoder.h"

#include <gtest/gtest.h>

#include <stop_token>

#include "kinora/base/error.h"
#include "kinora/models/decoder/test_decoder.h"

namespace kinora::models::decoder {
namespace {

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

DecoderConfig opt_with_norms_behind() {
  DecoderConfig c = tiny_opt();
  c.do_layer_norm_before = c.final_norm = false;
  return c;
}

DecoderConfig llama_with_all_options() {
  DecoderConfig c = tiny_llama();
  c.tie_word_embeddings = c.attention_bias = c.mlp_bias = true;
  c.head_dim = 10;
  c.num_key_value_heads = 1;
  c.rope_scaling = Llama3Scaling{.factor = 4, .original_max_position_embeddings = 16};
  return c;
}

class EachDecoder : public testing::TestWithParam<DecoderConfig> {};
INSTANTIATE_TEST_SUITE_P(Decoders, EachDecoder,
                         testing::Values(tiny_llama(), tiny_opt(), opt_with_norms_behind(), llama_with_all_options()));

TEST_P(EachDecoder, PromptAndStepsEqualOneCall) {
  const TestDecoder d(GetParam());
  const Tensor ids = tokens(2, 19), whole = d.logits(ids);
  for (const int64_t prompt : {1, 7, 18}) {
    KvCache grown, roomy(d.model.config(), 2, 19, at::kDouble);
    for (KvCache* cache : {&grown, &roomy}) {
      std::vector<Tensor> parts{d.logits(ids.narrow(1, 0, prompt), *cache)};
      for (int64_t i = prompt; i < ids.size(1); ++i) parts.push_back(d.logits(ids.narrow(1, i, 1), *cache));
      EXPECT_LT(distance(at::cat(parts, 1), whole), 1e-12) << prompt;
      EXPECT_EQ(cache->length(), 19);
    }
    EXPECT_EQ(roomy.capacity(), 19);
  }
}

TEST_P(EachDecoder, APromptInPartsEqualsTheWhole) {
  const TestDecoder d(GetParam());
  const Tensor ids = tokens(1, 17);
  KvCache cache;
  const Tensor first = d.logits(ids.narrow(1, 0, 6), cache), second = d.logits(ids.narrow(1, 6, 11), cache);
  EXPECT_LT(distance(at::cat({first, second}, 1), d.logits(ids)), 1e-12);
}

TEST_P(EachDecoder, ATokenChangesNothingBeforeIt) {
  const TestDecoder d(GetParam());
  Tensor ids = tokens(1, 12), other = ids.clone();
  other[0][8] = (ids[0][8].item<int64_t>() + 1) % 61;
  const Tensor a = d.logits(ids), b = d.logits(other);
  EXPECT_TRUE(a.narrow(1, 0, 8).equal(b.narrow(1, 0, 8)));
  EXPECT_GT(distance(a.narrow(1, 8, 1), b.narrow(1, 8, 1)), 1e-3);
  EXPECT_GT(distance(a.narrow(1, 11, 1), b.narrow(1, 11, 1)), 1e-6);
}

TEST_P(EachDecoder, SamplesDoNotDependOnTheirNeighbours) {
  const TestDecoder d(GetParam());
  const Tensor ids = tokens(3, 9);
  EXPECT_LT(distance(d.logits(ids).narrow(0, 1, 1), d.logits(ids.narrow(0, 1, 1))), 1e-12);
}

TEST_P(EachDecoder, ACutCacheGoesOnFromThere) {
  const TestDecoder d(GetParam());
  const Tensor ids = tokens(1, 12), other = tokens(1, 5, 8);
  KvCache cache;
  d.logits(ids, cache);
  cache.cut(7);
  const Tensor got = d.logits(other, cache);
  EXPECT_LT(distance(got, d.logits(at::cat({ids.narrow(1, 0, 7), other}, 1)).narrow(1, 7, 5)), 1e-12);
  EXPECT_THROW(cache.cut(13), UsageError);
  EXPECT_THROW(cache.cut(-1), UsageError);
}

TEST_P(EachDecoder, ACancelledCallLeavesTheCacheAsItWas) {
  const TestDecoder d(GetParam());
  const Tensor ids = tokens(1, 9);
  KvCache cache;
  const Tensor first = d.logits(ids.narrow(1, 0, 4), cache);
  std::stop_source stop;
  stop.request_stop();
  kinora::Run stopped = d.run;
  stopped.cancel = stop.get_token();
  EXPECT_THROW(d.logits(ids.narrow(1, 4, 5), cache, stopped), CancelledError);
  EXPECT_EQ(cache.length(), 4);
  EXPECT_LT(distance(at::cat({first, d.logits(ids.narrow(1, 4, 5), cache)}, 1), d.logits(ids)), 1e-12);
}

TEST_P(EachDecoder, RunsInBfloat16) {
  const TestDecoder wide(GetParam()), narrow(GetParam(), at::kBFloat16);
  const Tensor ids = tokens(1, 12), want = wide.logits(ids), got = narrow.logits(ids);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT((got.to(at::kDouble) - want).norm().item<double>(), 0.04 * want.norm().item<double>());
}

TEST(Decoder, QueriesThatShareKeysEqualKeysRepeated) {
  DecoderConfig shared = tiny_llama(), repeated = shared;
  repeated.num_key_value_heads = repeated.num_attention_heads;
  TestDecoder few(shared);
  TestDecoder many(repeated);
  for (const Param& p : many.model.params()) {
    const Tensor value = few.weights.get(*few.model.params().find(p.name));
    const bool is_key = p.name.ends_with("k_proj.weight") || p.name.ends_with("v_proj.weight");
    const int64_t d = shared.head_dim;
    many.weights.tensors()[static_cast<size_t>(p.id)] =
        is_key ? value.unflatten(0, {-1, d}).repeat_interleave(2, 0).flatten(0, 1) : value;
  }
  const Tensor ids = tokens(2, 13);
  EXPECT_LT(distance(few.logits(ids), many.logits(ids)), 1e-12);
}

TEST(Decoder, SitesAreTheTwoHalvesOfALayer) {
  struct Recorder : Policy {
    std::vector<std::string> seen;
    void keep(const SiteKey& key, const kinora::Run&, const Streams&) override { seen.emplace_back(key.path); }
  } recorder;
  const TestDecoder d(tiny_llama());
  kinora::Run run = d.run;
  run.policy = &recorder;
  KvCache cache;
  EXPECT_TRUE(d.logits(tokens(1, 5), cache, run).equal(d.logits(tokens(1, 5))));
  EXPECT_EQ(recorder.seen, (std::vector<std::string>{"model.layers.0.self_attn", "model.layers.0.mlp",
                                                     "model.layers.1.self_attn", "model.layers.1.mlp"}));
}

TEST(Decoder, RefusesWhatItCannotRead) {
  const TestDecoder d(tiny_opt());
  KvCache cache;
  EXPECT_THROW(d.logits(at::zeros({3}, at::kLong), cache), UsageError);
  EXPECT_THROW(d.logits(at::zeros({1, 0}, at::kLong), cache), UsageError);
  EXPECT_THROW(d.logits(at::zeros({1, 3}, at::kInt), cache), UsageError);
  EXPECT_THROW(d.logits(at::full({1, 3}, 61, at::kLong), cache), UsageError);
  EXPECT_THROW(d.logits(at::full({1, 3}, -1, at::kLong), cache), UsageError);
  EXPECT_THROW(d.logits(tokens(1, 97), cache), UsageError);
  EXPECT_EQ(cache.length(), 0);
  d.logits(tokens(1, 90), cache);
  EXPECT_THROW(d.logits(tokens(1, 7), cache), UsageError);
  EXPECT_THROW(d.logits(tokens(2, 3), cache), UsageError);  // a cache of one sample
  EXPECT_NO_THROW(d.logits(tokens(1, 6), cache));
}

TEST(KvCacheBytes, AreWhatAFullCacheHolds) {
  const DecoderConfig c = tiny_llama();
  // keys and values, 2 layers, 3 samples, 2 heads, 10 tokens, 6 wide, 4 bytes
  EXPECT_EQ(kv_cache_bytes(c, 3, 10, at::kFloat), 2 * 2 * 3 * 2 * 10 * 6 * 4);
}

TEST(Rope, PairsTurnByTheirFrequency) {
  DecoderConfig c = tiny_llama();
  c.head_dim = 4;
  const Tensor x = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).view({1, 4});
  const Tensor y = rotate(x, rotary_of(c, 5, 1))[0];
  for (int i = 0; i < 2; ++i) {  // pairs (1, 3) by 5 and (2, 4) by 5 / 100
    const double angle = i == 0 ? 5 : 0.05, a = 1.0 + i, b = 3.0 + i;
    EXPECT_NEAR(y[i].item<double>(), a * std::cos(angle) - b * std::sin(angle), 1e-6);
    EXPECT_NEAR(y[i + 2].item<double>(), b * std::cos(angle) + a * std::sin(angle), 1e-6);
  }
}

TEST(Rope, ScalingSlowsLongWavesOnly) {
  DecoderConfig c = tiny_llama();
  c.head_dim = 64;
  const Tensor plain = rope_frequencies(c);
  c.rope_scaling = Llama3Scaling{.factor = 8, .original_max_position_embeddings = 512};
  const Tensor ratio = rope_frequencies(c) / plain, wavelength = 6.283185307 / plain;
  for (int64_t i = 0; i < ratio.size(0); ++i) {
    const double r = ratio[i].item<double>(), w = wavelength[i].item<double>();
    if (w < 512.0 / 4) {
      EXPECT_NEAR(r, 1, 1e-6) << i;
    }
    if (w > 512.0) {
      EXPECT_NEAR(r, 1.0 / 8, 1e-6) << i;
    }
    EXPECT_GE(r, 1.0 / 8 - 1e-6);
  }
}

}  // namespace
}  // namespace kinora::models::decoder
