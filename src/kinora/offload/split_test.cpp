#include "kinora/offload/split.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/offload/pace_of.h"
#include "kinora/offload/schedule.h"
#include "kinora/offload/toy_model.h"

namespace kinora::offload {
namespace {

using test::kAll;

/// Square layers, a block each.
struct Chain {
  Params params;
  std::vector<Linear> layers;
  std::vector<Tensor> values;

  Chain(int count, int64_t width, at::ScalarType dtype) {
    for (int b = 0; b < count; ++b) layers.emplace_back(Scope(params) / "blocks" / b / "fc", width, width);
    values = drawn_weights(params, 9, dtype);
  }
  StreamPlan plan() const { return stream_with(params, c10::elementSize(values[0].scalar_type()), 0, 2, kAll); }
  std::vector<int64_t> shares(int64_t rows) const {
    std::vector<int64_t> out;
    for (const Param& p : params) out.push_back(p.shape.size() == 2 ? rows : 0);
    return out;
  }
  Tensor operator()(WeightSource& weights, Tensor x) const {
    const kinora::Run run{.weights = &weights};
    for (const Linear& layer : layers) x = layer(run, x);
    return x;
  }
};

class SplitWeightsTest : public testing::Test {
 protected:
  SplitWeightsTest() { at::set_num_threads(1); }
};

TEST_F(SplitWeightsTest, EqualsTheWholeBitForBitWhateverTheShare) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Chain chain(3, 192, dtype);
    ResidentWeights resident(chain.values);
    TensorStore store(chain.values);
    for (const int64_t tokens : {1, 2, 7, 64}) {
      const Tensor x = normal({tokens, 192}, 4).to(dtype);
      const Tensor want = chain(resident, x);
      for (const int64_t rows : {0, 64, 128, 192}) {
        SplitWeights split(chain.params, chain.plan(), chain.shares(rows), store, {.ring = {.poisons = true}});
        for (int pass = 0; pass < 2; ++pass) {
          EXPECT_TRUE(chain(split, x).equal(want)) << dtype << ", " << tokens << " tokens, " << rows << " rows";
        }
        EXPECT_EQ(split.counts().copies.empty(), rows == 192);
      }
    }
  }
}

TEST_F(SplitWeightsTest, GradientsEqualThoseOfTheWhole) {
  const at::AutoGradMode grad(true);
  const Chain chain(3, 128, at::kDouble);
  std::vector<Tensor> leaves;
  for (const Tensor& t : chain.values) leaves.push_back(t.clone().requires_grad_(true));
  ResidentWeights resident(leaves);
  const Tensor a = normal({5, 128}, 4).requires_grad_(true), b = a.detach().clone().requires_grad_(true);
  chain(resident, a).square().sum().backward();
  TensorStore store(chain.values);
  SplitWeights split(chain.params, chain.plan(), chain.shares(64), store, {.ring = {.poisons = true}});
  chain(split, b).square().sum().backward();
  EXPECT_LT((a.grad() - b.grad()).abs().max().item<double>(), 1e-11 * a.grad().abs().max().item<double>());
  ASSERT_EQ(split.gradients().size(), 3u);
  for (const auto& [id, gradient] : split.gradients()) {
    const Tensor want = leaves[static_cast<size_t>(id)].grad();
    EXPECT_LT((gradient - want).abs().max().item<double>(), 1e-11 * want.abs().max().item<double>());
  }
}

TEST_F(SplitWeightsTest, SharesThatDoNotFitAreRefused) {
  const Chain chain(3, 128, at::kFloat);
  TensorStore store(chain.values);
  EXPECT_THROW(SplitWeights(chain.params, chain.plan(), {64}, store), UsageError);
  EXPECT_THROW(SplitWeights(chain.params, chain.plan(), chain.shares(129), store), UsageError);
  EXPECT_THROW(SplitWeights(chain.params, chain.plan(), chain.shares(-1), store), UsageError);
}

/// 4 layers of 4 MB in float32, one token, as in decoding; link and CPU take about 40 ms each for their share.
TEST_F(SplitWeightsTest, RatesAddUp) {
  constexpr int kLayers = 4;
  const Chain chain(kLayers, 1024, at::kFloat);
  TensorStore host(chain.values);
  const double bytes = 1024 * 1024 * 4.0;
  const Tensor x = normal({1, 1024}, 4).to(at::kFloat);
  ResidentWeights resident(chain.values);
  const Tensor want = chain(resident, x);
  const at::NoGradGuard no_grad;
  for (const auto& rate : {std::pair(50e6, 50e6), {40e6, 60e6}}) {
    const double cpu_rate = rate.first, link_rate = rate.second;
    ThrottledStore link(host, link_rate);
    const SplitRates rates{.bytes = bytes, .cpu_rate = cpu_rate, .link_rate = link_rate};
    const auto pace = [&](int64_t rows, double goal) {
      SplitWeights split(chain.params, chain.plan(), chain.shares(rows), link, {.cpu_rate = cpu_rate});
      return test::pace_of([&] { EXPECT_TRUE(chain(split, x).equal(want)); }, 2, goal);
    };
    const double law = kLayers * split_seconds(rates);
    const auto share = static_cast<int64_t>(std::round(split_share(rates, true) * 1024 / 64)) * 64;
    const double split = pace(share, 1.1 * law), link_alone = pace(0, 1.1 * kLayers * bytes / link_rate),
                 cpu_alone = pace(1024, 1.1 * kLayers * bytes / cpu_rate);
    const std::string rates_text = concat("cpu ", cpu_rate, " link ", link_rate);
    test::expect_near_bound(rates_text + " link alone", link_alone, kLayers * bytes / link_rate, 1.1);
    test::expect_near_bound(rates_text + " cpu alone", cpu_alone, kLayers * bytes / cpu_rate, 1.1);
    test::expect_near_bound(rates_text + " split", split, law, 1.1);
  }
}

TEST_F(SplitWeightsTest, TheBenchmarkGivesNearlyAllToTheCpuBehindASlowLink) {
  const Chain chain(2, 1024, at::kFloat);
  TensorStore host(chain.values);
  // The CPU's own rate, measured as the benchmark does.
  const at::NoGradGuard no_grad;
  const Tensor x = at::ones({1, 1024}), w = chain.values[0];
  double best = 1e9;
  for (int i = 0; i < 50; ++i) {
    const auto began = Pace::Clock::now();
    ops::linear(x, w, std::nullopt);
    best = std::min(best, std::chrono::duration<double>(Pace::Clock::now() - began).count());
  }
  ThrottledStore slow(host, static_cast<double>(w.nbytes()) / best / 200);
  const auto rows = plan_split(chain.params, chain.plan(), slow, at::kCPU, 1, {.points = 3, .runs = 3});
  EXPECT_GE(rows[0], 768);
  EXPECT_EQ(rows[0] % 64, 0);
  EXPECT_EQ(rows[1], 0);        // a bias
  EXPECT_EQ(rows[2], rows[0]);  // a layer of the same shape
}

}  // namespace
}  // namespace kinora::offload
