#include "kinora/models/decoder/generate.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/models/decoder/test_decoder.h"

namespace kinora::models::decoder {
namespace {

Tensor of(std::vector<double> values) { return at::tensor(values, at::kDouble).unsqueeze(0); }

Tensor bits(std::vector<int64_t> values) { return at::tensor(values, at::kLong).to(at::kBool); }

Tensor run_from(const TestDecoder& d, const Tensor& ids, const GenerateOptions& options) {
  KvCache cache;
  return generate(d.run, d.model, ids, cache, options);
}

TEST(Generate, GreedyTokensAreThoseOfWholeCalls) {
  for (const DecoderConfig& config : {tiny_llama(), tiny_opt()}) {
    const TestDecoder d(config);
    Tensor want = tokens(2, 5);
    for (int i = 0; i < 9; ++i) want = at::cat({want, d.logits(want).select(1, -1).argmax(-1, true)}, 1);
    std::vector<Tensor> told;
    const GenerateOptions options{.max_new_tokens = 9, .on_tokens = [&](const Tensor& t) { told.push_back(t); }};
    EXPECT_TRUE(run_from(d, tokens(2, 5), options).equal(want));
    EXPECT_TRUE(at::stack(told, 1).equal(want.narrow(1, 5, 9)));
  }
}

TEST(Generate, GoesOnFromACacheOfTheFirstTokens) {
  const TestDecoder d(tiny_llama());
  const GenerateOptions options{.max_new_tokens = 6};
  KvCache cache;
  d.logits(tokens(1, 8).narrow(1, 0, 5), cache);
  EXPECT_TRUE(generate(d.run, d.model, tokens(1, 8), cache, options).equal(run_from(d, tokens(1, 8), options)));
  EXPECT_EQ(cache.length(), 13);
  EXPECT_THROW(generate(d.run, d.model, tokens(1, 8), cache, options), UsageError);
}

TEST(Generate, ASampleThatEndedGoesOnWithItsEndAndAllEndedStop) {
  const TestDecoder d(tiny_opt());
  const Tensor free_run = run_from(d, tokens(2, 5), {.max_new_tokens = 8}).narrow(1, 5, 8);
  const int64_t first = free_run[0][2].item<int64_t>(), second = free_run[1][4].item<int64_t>();
  const Tensor ended = run_from(d, tokens(2, 5), {.max_new_tokens = 8, .eos_token_ids = {first, second}});
  const auto end_of = [&](int64_t sample) {
    for (int64_t i = 0; i < 8; ++i) {
      const int64_t token = free_run[sample][i].item<int64_t>();
      if (token == first || token == second) return i;
    }
    return int64_t{8};
  };
  const int64_t longest = std::max(end_of(0), end_of(1));
  ASSERT_EQ(ended.size(1), 5 + longest + 1);
  for (int64_t sample = 0; sample < 2; ++sample) {
    const int64_t end = end_of(sample);
    const Tensor got = ended[sample].narrow(0, 5, longest + 1);
    EXPECT_TRUE(got.narrow(0, 0, end + 1).equal(free_run[sample].narrow(0, 0, end + 1)));
    EXPECT_TRUE((got.narrow(0, end + 1, longest - end) == first).all().item<bool>());
  }
}

TEST(Generate, RefusesBeforeAnyWork) {
  const TestDecoder d(tiny_opt());
  EXPECT_THROW(run_from(d, tokens(1, 90), {.max_new_tokens = 8}), UsageError);
  EXPECT_NO_THROW(run_from(d, tokens(1, 90), {.max_new_tokens = 7}));
  EXPECT_THROW(run_from(d, tokens(1, 4), {.max_new_tokens = 0}), UsageError);
  EXPECT_THROW(run_from(d, at::zeros({4}, at::kLong), {}), UsageError);
}

TEST(Probabilities, TemperatureDividesTheLogits) {
  const Tensor logits = of({0.0, 1.0, 2.0});
  const Tensor want = (logits / 0.5).softmax(-1);
  EXPECT_TRUE(at::allclose(probabilities(logits, {.temperature = 0.5}).to(at::kDouble), want, 1e-6));
}

TEST(Probabilities, TopKKeepsTheMostLikelyAndTheirTies) {
  const Tensor p = probabilities(of({3.0, 1.0, 2.0, 2.0, 0.0}), {.top_k = 2})[0];
  EXPECT_TRUE((p > 0).equal(bits({1, 0, 1, 1, 0})));
  EXPECT_NEAR(p.sum().item<double>(), 1, 1e-6);
  EXPECT_TRUE((probabilities(of({3.0, 1.0}), {.top_k = 9}) > 0).all().item<bool>());
}

TEST(Probabilities, TopPKeepsTheFewestThatReachIt) {
  const Tensor logits = at::tensor({0.1, 0.5, 0.15, 0.25}, at::kDouble).log().unsqueeze(0);
  const auto kept = [&](double p) { return (probabilities(logits, {.top_p = p})[0] > 0); };
  EXPECT_TRUE(kept(0.4).equal(bits({0, 1, 0, 0})));
  EXPECT_TRUE(kept(0.6).equal(bits({0, 1, 0, 1})));
  EXPECT_TRUE(kept(0.8).equal(bits({0, 1, 1, 1})));
  EXPECT_TRUE(kept(1e-9).equal(bits({0, 1, 0, 0})));
}

TEST(Probabilities, RefusesWhatIsNoDistribution) {
  const Tensor logits = of({1.0, 2.0});
  EXPECT_THROW(probabilities(logits, {.temperature = 0}), UsageError);
  EXPECT_THROW(probabilities(logits, {.temperature = -1}), UsageError);
  EXPECT_THROW(probabilities(logits, {.temperature = std::nan("")}), UsageError);
  EXPECT_THROW(probabilities(logits, {.top_k = -1}), UsageError);
  EXPECT_THROW(probabilities(logits, {.top_p = 0}), UsageError);
  EXPECT_THROW(probabilities(logits, {.top_p = 1.1}), UsageError);
}

TEST(Sampled, SeedsDecideAndFrequenciesAreTheProbabilities) {
  const Tensor logits = at::tensor({0.7, 0.2, 0.1}, at::kDouble).log().expand({20000, 3});
  const auto draw = [&](uint64_t seed) {
    at::Generator generator = cpu_generator(seed);
    return sampled(logits, {}, generator);
  };
  EXPECT_TRUE(draw(5).equal(draw(5)));
  EXPECT_FALSE(draw(5).equal(draw(6)));
  const Tensor share = at::bincount(draw(5), {}, 3).to(at::kDouble) / 20000;
  EXPECT_LT((share - at::tensor({0.7, 0.2, 0.1}, at::kDouble)).abs().max().item<double>(), 0.012);
}

TEST(Sampled, ATinyTopPIsGreedy) {
  const TestDecoder d(tiny_llama());
  at::Generator generator = cpu_generator(1);
  const Chooser choose = [&](const Tensor& logits) { return sampled(logits, {.top_p = 1e-9}, generator); };
  EXPECT_TRUE(run_from(d, tokens(2, 4), {.max_new_tokens = 6, .choose = choose})
                  .equal(run_from(d, tokens(2, 4), {.max_new_tokens = 6})));
}

}  // namespace
}  // namespace kinora::models::decoder
