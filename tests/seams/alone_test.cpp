// Each technique alone on every model, and each check seen to fail when the thing is broken on purpose ("Broken").
#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "kinora/base/error.h"
#include "kinora/graph/block_graphs.h"
#include "kinora/graph/capture.h"
#include "kinora/ops/norm.h"
#include "seams/on_each_model.h"
#include "seams/policies.h"
#include "seams/ranks.h"
#include "seams/streamed.h"

namespace kinora::seams {
namespace {

class Alone : public OnEachModel {};
INSTANTIATE_TEST_SUITE_P(Seams, Alone,
                         testing::Values(&make_stdit3, &make_cogvideox, &make_stdit3_with_given_frame, &make_latte,
                                         &make_wan_with_given_frame),
                         name_of);

/// Reuses by a table of letters, one a call: what PAB's rule must come to, without the rule.
struct Table : Policy {
  std::map<Kind, std::string> letters;
  std::map<std::string, Streams> kept;
  bool reuses(const SiteKey& key, const Run& run) const override {
    return key.point == Point::module && letters.count(key.kind) &&
           letters.at(key.kind)[static_cast<size_t>(run.step.call)] == 'R';
  }
  Streams reuse(const SiteKey& key, const Run&) override { return kept.at(std::string(key.path)); }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override {
    if (key.point == Point::module) kept[std::string(key.path)] = streams;
  }
};

const std::map<Kind, std::string> kUsualLetters = {
    {Kind::spatial, "CCCRCRCRC"}, {Kind::full, "CCCRCRCRC"}, {Kind::temporal, "CCRRCRRRC"}, {Kind::cross, "CCRRRRCRC"}};

std::string letters_at(const std::string& path) {
  if (path.find("cross") != std::string::npos || path.ends_with("attn2")) return kUsualLetters.at(Kind::cross);
  return kUsualLetters.at(path.starts_with("temporal") ? Kind::temporal : Kind::spatial);
}

TEST_P(Alone, BroadcastReusesWhereTheTableSaysAndGivesItsValues) {
  Watched pab(make_pab());
  Table table;
  table.letters = kUsualLetters;
  const auto out = with(pab);
  EXPECT_TRUE(identical(out, with(table)));
  EXPECT_GT(distance(out, denoise(subject, run)), kVisible);
  EXPECT_FALSE(pab.sites.empty());
  for (const auto& [path, letters] : pab.sites) EXPECT_EQ(letters, letters_at(path)) << path;
}

TEST_P(Alone, BroadcastWithAnEmptyWindowIsNone) {
  auto rules = usual_rules();
  for (auto& [kind, rule] : rules) rule.high = rule.low;
  Watched pab(make_pab(rules));
  EXPECT_TRUE(identical(with(pab), denoise(subject, run)));
  EXPECT_EQ(pab.count('R'), 0);
}

TEST_P(Alone, BrokenBroadcastWindowIsSeenInCountsAndValues) {
  auto rules = usual_rules();
  for (auto& [kind, rule] : rules) rule.low = 300;  // call 7, at 240, falls out
  Watched pab(make_pab()), broken(make_pab(rules));
  const auto want = with(pab), got = with(broken);
  EXPECT_LT(broken.count('R'), pab.count('R'));
  EXPECT_GT(distance(got, want), kVisible);
}

/// Both branches of each step in calls of their own, as a pipeline without batched guidance makes them.
std::vector<Tensor> denoise_apart(const Subject& subject, Run run, bool tells_branch) {
  Tensor x = subject.latents;
  std::vector<Tensor> predictions;
  for (size_t call = 0; call < std::size(kSchedule); ++call) {
    run.step = {.call = static_cast<int>(call),
                .calls = static_cast<int>(std::size(kSchedule)),
                .timestep = kSchedule[call],
                .schedule = kSchedule};
    std::vector<Tensor> parts;
    for (const Branch b : {Branch::uncond, Branch::cond}) {
      const std::vector<Branch> rows{b};
      run.rows = rows;
      kinora::Run told = run;
      const auto part = x.narrow(0, b == Branch::cond ? 1 : 0, 1);
      struct Hidden : Policy {  // broken on purpose: the policy is not told which branch it sees
        explicit Hidden(Policy* p) : inner(p) {}
        Policy* inner;
        static Run blind(const Run& r) {
          Run b2 = r;
          b2.rows = {};
          return b2;
        }
        bool reuses(const SiteKey& k, const Run& r) const override { return inner->reuses(k, blind(r)); }
        Streams reuse(const SiteKey& k, const Run& r) override { return inner->reuse(k, blind(r)); }
        void keep(const SiteKey& k, const Run& r, const Streams& s) override {
          if (inner->keeps(k, r)) inner->keep(k, blind(r), s);
        }
        Streams stack(const Run& r, const Stack& s, Streams in) override {
          return inner->stack(blind(r), s, std::move(in));
        }
      } hidden(run.policy);
      if (!tells_branch) told.policy = &hidden;
      parts.push_back(subject.predict(told, part, kSchedule[call]));
    }
    predictions.push_back(at::cat(parts));
    x = x + predictions.back() * 0.05;
  }
  return predictions;
}

TEST_P(Alone, BroadcastKeepsGuidanceBranchesApart) {
  const std::vector<Branch> both{Branch::uncond, Branch::cond};
  Watched batched(make_pab()), apart(make_pab()), mixed(make_pab());
  kinora::Run together = run;
  together.rows = both;
  together.policy = &batched;
  const auto want = denoise(subject, together);
  kinora::Run alone = run;
  alone.policy = &apart;
  EXPECT_LT(distance(denoise_apart(subject, alone, true), want), kRounding);
  alone.policy = &mixed;
  EXPECT_GT(distance(denoise_apart(subject, alone, false), want), kVisible);
}

TEST(FirstBlock, ComparesWithTheLastComputationAndAddsWhatTheOthersAdded) {
  // Block 0 adds a, the others double: residuals 1, 1.04, 1.06 and 1.07 times the ones tensor.
  const double added[] = {1.0, 1.04, 1.06, 1.07};
  Watched cache(make_first_block(0.05));
  const Tensor x = at::ones({2, 3, 5, 4}, at::kDouble), text = at::full({2, 3, 4}, 2.0, at::kDouble);
  std::vector<Streams> out;
  for (const double a : added) {
    const Stack blocks{.path = "b", .blocks = 3, .block = [a](const kinora::Run&, int b, Streams s) -> Streams {
                         return b == 0 ? Streams{s[0] + a, s[1] + 1} : Streams{s[0] * 2, s[1] * 2};
                       }};
    kinora::Run run;
    run.policy = &cache;
    out.push_back(stack(run, blocks, {x, text}));
  }
  EXPECT_EQ(cache.calls, "CRCR");  // 0.04, then 0.06 against the first call, then 0.01 / 1.06
  EXPECT_NEAR(cache.changes[1], 0.06, 1e-12);
  EXPECT_NEAR(out[0][0][0][0][0][0].item<double>(), 8, 1e-12);         // 2 * 2 * (1 + 1)
  EXPECT_NEAR(out[1][0][0][0][0][0].item<double>(), 2.04 + 6, 1e-12);  // tail 8 - 2
  EXPECT_NEAR(out[2][0][0][0][0][0].item<double>(), 8.24, 1e-12);
  EXPECT_NEAR(out[3][0][0][0][0][0].item<double>(), 2.07 + 6.18, 1e-12);
  EXPECT_NEAR(out[1][1][0][0][0].item<double>(), 12, 1e-12);  // text too: 3 + 9
}

TEST_P(Alone, FirstBlockThatNeverReusesIsNone) {
  Watched cache(make_first_block(0));
  EXPECT_TRUE(identical(with(cache), denoise(subject, run)));
  EXPECT_EQ(cache.calls, "CCCCCCCCC");
}

TEST_P(Alone, FirstBlockReusesBelowItsThresholdAndMovesWithIt) {
  Watched probe(make_first_block(0)), low(make_first_block(0)), high(make_first_block(1000));
  with(probe);
  const auto [least, most] = std::minmax_element(probe.changes.begin(), probe.changes.end());
  Watched cache(make_first_block((*least + *most) / 2));
  const auto out = with(cache), all = with(high);
  EXPECT_EQ(high.calls, "CRRRRRRRR");
  EXPECT_NE(cache.calls.find('R'), std::string::npos);
  EXPECT_GT(std::count(cache.calls.begin(), cache.calls.end(), 'C'), 1) << cache.calls;
  with(low);
  EXPECT_EQ(low.calls, "CCCCCCCCC") << "a threshold that is wrong shows in the letters";
  EXPECT_GT(distance(out, all), kVisible);
}

TEST_P(Alone, TwoRanksEqualOneWhicheverAxisIsHome) {
  const auto want = denoise(subject, run);
  for (const Axis home : {Axis::rows, Axis::frames}) {
    on_two_ranks(subject, {.home = home}, [&](Rank& rank) {
      kinora::Run r = run;
      r.layout = &rank.layout;
      EXPECT_LT(distance(denoise(subject, r), want), kRounding);
      EXPECT_EQ(rank.exchanges(), static_cast<int>(std::size(kSchedule)) * (subject.attention_exchanges + 1));
    });
  }
}

TEST_P(Alone, BrokenExchangeIsSeen) {
  const auto want = denoise(subject, run);
  on_two_ranks(subject, {.skips = true}, [&](Rank& rank) {
    kinora::Run r = run;
    r.layout = &rank.layout;
    EXPECT_GT(distance(denoise(subject, r), want), kVisible);
  });
}

TEST_P(Alone, BrokenPeerEndsInAnErrorNotInAWait) {
  EXPECT_THROW(on_two_ranks(subject, {.patience = std::chrono::milliseconds(200)},
                            [&](Rank& rank) {
                              kinora::Run r = run;
                              r.layout = &rank.layout;
                              if (rank.rank == 0) denoise(subject, r);
                            }),
               Error);
}

TEST_P(Alone, StreamedWeightsGiveTheSameBits) {
  for (const int slots : {1, 2, 3}) {
    Streamed streamed(subject, subject.values, slots);
    kinora::Run r = run;
    r.weights = &streamed.weights;
    EXPECT_TRUE(identical(denoise(subject, r), denoise(subject, run)));
    EXPECT_GT(streamed.copies().size(), 10u);
  }
}

TEST_P(Alone, StreamedWeightsAreAskedForAgainInBackward) {
  const auto leaves = leaves_of(subject);
  Streamed streamed(subject, leaves), forward_only(subject, subject.values);
  kinora::Run r = run;
  r.weights = &streamed.weights;
  const Gradients got = gradients(subject, r, leaves, 1, &streamed.weights.gradients()),
                  want = resident_gradients(subject);
  EXPECT_LT(distance(got, want), kRounding);
  EXPECT_GT(streamed.weights.gradients().size(), 10u);
  r.weights = &forward_only.weights;
  subject.predict(r, subject.latents, 500);
  // What is in the slot when backward begins is the last block.
  const int last = streamed.weights.plan().blocks.size() - 1;
  for (const auto& [id, n] : forward_only.copies()) {
    EXPECT_EQ(n, 1);
    const bool is_last = streamed.weights.plan().blocks.of[static_cast<size_t>(id)] == last;
    EXPECT_EQ(streamed.copies().at(id), is_last ? 1 : 2) << (*subject.params)[id].name;
  }
}

TEST_P(Alone, BrokenSlotThatIsFreedWhileAutogradHoldsItIsSeen) {
  const auto leaves = leaves_of(subject);
  Streamed streamed(subject, leaves);
  AsTensors broken(streamed.weights, true);
  kinora::Run r = run;
  r.weights = &broken;
  const Gradients want = resident_gradients(subject), got = gradients(subject, r, leaves);
  EXPECT_GT(distance(std::vector<Tensor>{got.of_latents}, std::vector<Tensor>{want.of_latents}), kVisible);
}

TEST_P(Alone, BrokenSlotThatAutogradHoldsIsRefusedToTheNext) {
  const auto leaves = leaves_of(subject);
  Streamed streamed(subject, leaves, 1, std::chrono::milliseconds(200));
  AsTensors broken(streamed.weights, false);
  kinora::Run r = run;
  r.weights = &broken;
  EXPECT_THROW(gradients(subject, r, leaves), ResourceError);
}

TEST_P(Alone, BlocksReplayBitForBitAtEveryStep) {
  graph::BlockGraphs graphs;
  EXPECT_TRUE(identical(with(graphs), denoise(subject, run)));
  EXPECT_EQ(graphs.counts().graphs, subject.blocks);  // one a block serves all calls
  EXPECT_EQ(graphs.counts().replays, subject.blocks * static_cast<int>(std::size(kSchedule)));
  const Tensor one = subject.latents.narrow(0, 1, 1);  // a batch of one takes other ways through some operators
  kinora::Run graphed = run;
  graphed.policy = &graphs;
  EXPECT_TRUE(identical(denoise(subject, graphed, kSchedule, one), denoise(subject, run, kSchedule, one)));
  EXPECT_EQ(graphs.counts().graphs, 2 * subject.blocks);
  const std::set<std::string> mismatches(graphs.mismatches().begin(), graphs.mismatches().end());
  EXPECT_EQ(mismatches, std::set<std::string>{});
}

TEST(Operators, TakeTheSameWayUnderEveryGradMode) {
  at::Generator generator;
  const Tensor x = at::linspace(-2, 3, 24, at::kDouble).view({2, 3, 4}), scale = at::full({4}, 0.5, at::kDouble);
  const auto norm = [&](const Tensor& t) {
    return ops::layer_norm(t, std::nullopt, std::nullopt, scale, std::nullopt, 1e-6);
  };
  const Tensor want = norm(x);
  const Tensor leaf = x.clone().requires_grad_(true);
  const Tensor with_grad = norm(leaf);
  EXPECT_TRUE(with_grad.equal(want) && with_grad.requires_grad());
  with_grad.square().sum().backward();
  const Tensor delta = at::zeros_like(x);
  delta[1][2][0] = 1e-6;
  const double numeric = ((norm(x + delta).square().sum() - norm(x - delta).square().sum()) / 2e-6).item<double>();
  EXPECT_NEAR(leaf.grad()[1][2][0].item<double>(), numeric, 1e-6);
  {
    at::NoGradGuard no_grad;
    EXPECT_TRUE(norm(leaf).equal(want) && !norm(leaf).requires_grad());
  }
  {
    c10::InferenceMode inference;
    EXPECT_TRUE(norm(leaf).equal(want) && norm(leaf).is_inference());
    const graph::Graph graph = graph::capture({{x}, {}}, [&](const auto& in) -> std::vector<Tensor> {
      return {ops::layer_norm(in[0], std::nullopt, std::nullopt, in[0].select(1, 0).unsqueeze(1), std::nullopt, 1e-6)};
    });
    EXPECT_EQ(graph.nodes.size(), 3u);  // select, unsqueeze, and one node for the operator
  }
}

}  // namespace
}  // namespace kinora::seams
