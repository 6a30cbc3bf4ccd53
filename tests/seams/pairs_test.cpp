// Every pair of techniques, on every model: broadcast (PAB), first block (FBC), two ranks (DSP, Ulysses), streamed
// weights, graphs (capture and replay); then all of them together. Each pair has a check that fails when
// one half is broken on purpose, or names the one in alone_test.cpp that does. Meaningless are: broadcast, first
// block and graphs with backward (they are for inference: a reused value has no gradient to give, and a graph records
// no autograd nodes), so those pairs run forward only.
#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/graph/block_graphs.h"
#include "seams/on_each_model.h"
#include "seams/policies.h"
#include "seams/ranks.h"
#include "seams/streamed.h"

namespace kinora::seams {
namespace {

constexpr int kCalls = static_cast<int>(std::size(kSchedule));

class Pairs : public OnEachModel {
 protected:
  /// A threshold that the model's own changes cross both ways.
  double usual_threshold() const {
    Watched probe(make_first_block(0));
    with(probe);
    const auto [least, most] = std::minmax_element(probe.changes.begin(), probe.changes.end());
    return (*least + *most) / 2;
  }
  /// Computed attentions whose home axis must be made whole, of all calls.
  int attentions_with_exchange(const Watched& pab) const {
    int n = 0;
    for (const auto& [path, letters] : pab.sites) {
      const bool is_cross = path.find("cross") != std::string::npos || path.ends_with("attn2");
      const bool exchanges = !path.starts_with("temporal") && !is_cross;
      if (exchanges) n += static_cast<int>(std::count(letters.begin(), letters.end(), 'C'));
    }
    return n;
  }
  int exchanges_of_one() const { return subject.has_text_stream ? 3 : 2; }
  /// The id of a linear weight inside an attention that usual_rules() reuse.
  int32_t attention_weight() const {
    return subject.params
        ->find(subject.name == "STDiT3" ? "spatial_blocks.0.attn.qkv.weight" : "transformer_blocks.0.attn1.to_q.weight")
        ->id;
  }
  int32_t last_block_weight() const {
    const char* name = subject.name == "STDiT3"  ? "temporal_blocks.1.mlp.fc1.weight"
                       : subject.name == "Latte" ? "temporal_transformer_blocks.1.ff.net.0.proj.weight"
                                                 : "transformer_blocks.1.ff.net.0.proj.weight";
    return subject.params->find(name)->id;
  }
};
INSTANTIATE_TEST_SUITE_P(Seams, Pairs,
                         testing::Values(&make_stdit3, &make_cogvideox, &make_stdit3_with_given_frame, &make_latte),
                         name_of);

/// Counts the letters, and visits of blocks by the sites that they compute.
int letters(const std::string& log, char letter) {
  return static_cast<int>(std::count(log.begin(), log.end(), letter));
}

TEST_P(Pairs, BroadcastAndFirstBlock) {
  const double threshold = usual_threshold();
  Watched pab(make_pab()), idle(make_pab({})), alone(make_pab());
  Watched fbc(make_first_block(threshold)), never(make_first_block(0)), fbc_alone(make_first_block(threshold));
  Both both(pab, fbc), only_pab(alone, never), only_fbc(idle, fbc_alone);
  const auto out = with(both);
  EXPECT_GT(pab.count('R'), 0);
  EXPECT_GT(letters(fbc.calls, 'R'), 0);
  EXPECT_LT(pab.oldest, 6);  // no value outlives its range in calls that the loop left out
  Watched same(make_pab());
  EXPECT_TRUE(identical(with(only_pab), with(same)));
  Watched same_fbc(make_first_block(threshold));
  EXPECT_TRUE(identical(with(only_fbc), with(same_fbc)));
  EXPECT_GT(distance(out, with(same)), kVisible);
  // Broken: a loop that runs its blocks with itself as the policy hides their sites.
  struct Hides : Watched {
    using Watched::Watched;
    Streams stack(const kinora::Run& r, const Stack& blocks, Streams streams) override {
      kinora::Run own = r;
      own.policy = this;
      return Watched::stack(own, blocks, std::move(streams));
    }
  } hides(make_first_block(threshold));
  Watched unseen(make_pab());
  Both broken(unseen, hides);
  with(broken);
  EXPECT_EQ(unseen.count('C') + unseen.count('R'), 0);
}

TEST_P(Pairs, BroadcastAndTwoRanksExchangeOnlyWhatIsComputed) {
  Watched one(make_pab());
  const auto want = with(one);
  for (const bool skips : {false, true}) {
    on_two_ranks(subject, {.skips = skips}, [&](Rank& rank) {
      Watched pab(make_pab());
      kinora::Run r = run;
      r.layout = &rank.layout;
      r.policy = &pab;
      const double d = distance(denoise(subject, r), want);
      EXPECT_EQ(d > kVisible, skips) << d;
      EXPECT_EQ(d < kRounding, !skips) << d;
      EXPECT_EQ(pab.sites, one.sites);
      const int64_t exchanges = rank.exchanges();
      EXPECT_EQ(exchanges, attentions_with_exchange(pab) * exchanges_of_one() + kCalls);
      EXPECT_LT(exchanges, kCalls * (subject.attention_exchanges + 1));
    });
  }
}

TEST_P(Pairs, BroadcastAndStreamedWeightsTransferOnlyWhatIsComputed) {
  for (const bool knows : {true, false}) {
    Watched one(make_pab()), pab(make_pab());
    Streamed streamed(subject, subject.values);
    offload::Ahead ahead(*subject.params, streamed.weights, &pab);
    kinora::Run r = run;
    r.weights = &streamed.weights;
    r.policy = knows ? static_cast<Policy*>(&ahead) : &pab;
    EXPECT_TRUE(identical(denoise(subject, r), with(one)));
    EXPECT_EQ(pab.sites, one.sites);
    EXPECT_EQ(streamed.copies().at(attention_weight()), knows ? 6 : kCalls);  // CCCRCRCRC
    EXPECT_EQ(streamed.copies().at(last_block_weight()), kCalls);
  }
}

TEST_P(Pairs, BroadcastAndGraphsKeepValuesOfTheirOwn) {
  Watched one(make_pab()), pab(make_pab());
  const auto want = with(one);
  graph::BlockGraphs graphs({}, &pab);
  EXPECT_TRUE(identical(with(graphs), want));
  EXPECT_EQ(pab.sites, one.sites);
  EXPECT_LE(pab.bytes(), one.bytes());
  EXPECT_TRUE(graphs.mismatches().empty()) << graphs.mismatches().front();
  // A graph for each block and pattern of hits; the more hits, the fewer calls.
  EXPECT_GT(graphs.counts().graphs, subject.blocks);
  const auto of_first = [&](const char* bits) {
    return graphs.nodes(concat(subject.has_text_stream ? "transformer_blocks" : "blocks", ".0 reused ", bits, " "));
  };
  if (subject.has_text_stream) {  // attention, feed-forward layer: residual and module of each
    EXPECT_LT(of_first("0100"), of_first("0000"));
    EXPECT_GT(of_first("0100"), 0u);
  } else {  // between the two, cross attention
    EXPECT_LT(of_first("010100"), of_first("000100"));
    EXPECT_LT(of_first("000100"), of_first("000000"));
    EXPECT_GT(of_first("010100"), 0u);
  }
}

/// Broken on purpose: what a policy keeps is memory that the next site takes over, as an arena's would be.
class Lent : public Policy {
 public:
  explicit Lent(Policy& inner) : inner_(inner) {}
  bool reuses(const SiteKey& key, const kinora::Run& r) const override { return inner_.reuses(key, r); }
  Streams reuse(const SiteKey& key, const kinora::Run& r) override { return inner_.reuse(key, r); }
  bool keeps(const SiteKey& key, const kinora::Run& r) const override { return inner_.keeps(key, r); }
  void keep(const SiteKey& key, const kinora::Run& r, const Streams& streams) override {
    for (const Tensor& t : lent_) t.fill_(7);
    inner_.keep(key, r, lent_ = streams);
  }
  void ran(const SiteKey& key, const kinora::Run& r, bool reused) override { inner_.ran(key, r, reused); }

 private:
  Policy& inner_;
  Streams lent_;
};

TEST_P(Pairs, BrokenGraphThatKeepsBorrowedMemoryIsSeen) {
  Watched one(make_pab()), pab(make_pab());
  Lent lent(pab);
  graph::BlockGraphs graphs({}, &lent);
  EXPECT_GT(distance(with(graphs), with(one)), kVisible);
}

TEST_P(Pairs, FirstBlockAndTwoRanksDecideAsOne) {
  const double threshold = usual_threshold();
  Watched one(make_first_block(threshold));
  const auto want = with(one);
  on_two_ranks(subject, {}, [&](Rank& rank) {
    Watched fbc(make_first_block(threshold));
    kinora::Run r = run;
    r.layout = &rank.layout;
    r.policy = &fbc;
    EXPECT_LT(distance(denoise(subject, r), want), kRounding);
    EXPECT_EQ(fbc.calls, one.calls);
    for (size_t i = 0; i < one.changes.size(); ++i) EXPECT_NEAR(fbc.changes[i], one.changes[i], kRounding);
    const int first = exchanges_of_one();
    const int computed = letters(fbc.calls, 'C');
    EXPECT_EQ(rank.exchanges(),
              computed * subject.attention_exchanges + (kCalls - computed) * first + kCalls + (kCalls - 1));
  });
}

TEST_P(Pairs, EveryCacheThatMeasuresDecidesAsOneOverTwoRanks) {
  // A threshold that the model's own changes cross both ways.
  const auto with_threshold = [&](const std::string& text, double share) {
    Watched probe(make_cache(text + ",threshold=0", subject));
    with(probe);
    double sum = 0;
    for (const double change : probe.changes) sum += change;
    return concat(text, ",threshold=", share * sum / static_cast<double>(probe.changes.size()));
  };
  std::vector<std::string> caches{with_threshold("tea:probe=modulated_input,coefficients=1+0", 1.5),
                                  with_threshold("dual-block:first=1,warmup=1", 1)};
  if (!subject.has_text_stream) {
    caches.push_back("ada:changes=0.0001+1000,rates=1+2+1");
    caches.push_back("ada:changes=0.0001+1000,rates=1+2+1,moreg=on");
  }
  for (const std::string& cache : caches) {
    SCOPED_TRACE(cache);
    Watched one(make_cache(cache, subject));
    const auto want = with(one);
    EXPECT_GT(letters(one.calls, 'R'), 0);
    EXPECT_GT(letters(one.calls, 'C'), 1);
    on_two_ranks(subject, {}, [&](Rank& rank) {
      Watched two(make_cache(cache, subject));
      kinora::Run r = run;
      r.layout = &rank.layout;
      r.policy = &two;
      EXPECT_LT(distance(denoise(subject, r), want), kRounding);
      EXPECT_EQ(two.calls, one.calls);
      ASSERT_EQ(two.changes.size(), one.changes.size());
      for (size_t i = 0; i < one.changes.size(); ++i) EXPECT_NEAR(two.changes[i], one.changes[i], 1e-9);
    });
  }
}

TEST_P(Pairs, BrokenDecisionOfEachRankAloneEndsInAnError) {
  double ratios[2];
  const auto decide_alone = [&](double threshold) {
    on_two_ranks(subject, {.patience = std::chrono::milliseconds(200)}, [&](Rank& rank) {
      const DecidesAlone layout(rank.layout);
      Watched fbc(make_first_block(threshold));
      kinora::Run r = run;
      r.layout = &layout;
      r.policy = &fbc;
      denoise(subject, r);
      ratios[rank.rank] = fbc.changes[0];
    });
  };
  decide_alone(0);
  ASSERT_GT(std::abs(ratios[0] - ratios[1]), kVisible);
  EXPECT_THROW(decide_alone((ratios[0] + ratios[1]) / 2), Error);
}

TEST_P(Pairs, FirstBlockAndStreamedWeightsTransferOnlyWhatIsComputed) {
  const double threshold = usual_threshold();
  Watched one(make_first_block(threshold)), fbc(make_first_block(threshold));
  Streamed streamed(subject, subject.values);
  kinora::Run r = run;
  r.weights = &streamed.weights;
  r.policy = &fbc;
  EXPECT_TRUE(identical(denoise(subject, r), with(one)));
  // The first block always runs; behind a call that left the others out it is in the slot still.
  const std::string before_last = fbc.calls.substr(0, fbc.calls.size() - 1);
  EXPECT_EQ(streamed.copies().at(attention_weight()), 1 + letters(before_last, 'C'));
  EXPECT_EQ(streamed.copies().at(last_block_weight()), letters(fbc.calls, 'C'));
}

TEST_P(Pairs, FirstBlockAndGraphs) {
  const double threshold = usual_threshold();
  Watched one(make_first_block(threshold)), fbc(make_first_block(threshold));
  graph::BlockGraphs graphs({}, &fbc);
  EXPECT_TRUE(identical(with(graphs), with(one)));
  EXPECT_EQ(fbc.calls, one.calls);
  EXPECT_EQ(graphs.counts().replays, letters(fbc.calls, 'C') * subject.blocks + letters(fbc.calls, 'R'));
}

/// Gradients of two ranks that stream for themselves, added up.
Gradients gradients_of_two_ranks(const Subject& subject, Axis home, bool breaks_slot) {
  Gradients of_rank[2];
  on_two_ranks(subject, {.home = home}, [&](Rank& rank) {
    const auto leaves = leaves_of(subject);
    Streamed streamed(subject, leaves);
    AsTensors broken(streamed.weights, true);
    const kinora::Run r{.weights = breaks_slot ? static_cast<WeightSource*>(&broken) : &streamed.weights,
                        .layout = &rank.layout};
    of_rank[rank.rank] = gradients(subject, r, leaves, 0.5, &streamed.weights.gradients());
  });
  return sum(of_rank);
}

TEST_P(Pairs, TwoRanksAndStreamedWeightsAddUpToTheGradientsOfOne) {
  const Gradients want = resident_gradients(subject);
  EXPECT_LT(distance(gradients_of_two_ranks(subject, Axis::rows, false), want), kRounding);
  EXPECT_LT(distance(gradients_of_two_ranks(subject, Axis::frames, false), want), kRounding);
  EXPECT_GT(distance(gradients_of_two_ranks(subject, Axis::rows, true), want), kVisible);
}

TEST_P(Pairs, TwoRanksAndGraphs) {
  for (const bool behind_dispatcher : {false, true}) {
    const auto both = [&] {
      on_two_ranks(subject, {.patience = std::chrono::milliseconds(500)}, [&](Rank& rank) {
        const BehindDispatcher unseen(rank.layout, rank.group);
        kinora::Run r = run;
        r.layout = behind_dispatcher ? &unseen : &rank.layout;
        const auto want = denoise(subject, r);
        const int64_t exchanges = rank.exchanges();
        graph::BlockGraphs graphs;
        r.policy = &graphs;
        EXPECT_TRUE(identical(denoise(subject, r), want));
        EXPECT_EQ(rank.exchanges(), exchanges);  // none at capture
        EXPECT_TRUE(graphs.mismatches().empty()) << graphs.mismatches().front();
      });
    };
    if (behind_dispatcher) {
      EXPECT_ANY_THROW(both());
    } else {
      both();
    }
  }
}

TEST_P(Pairs, StreamedWeightsAndGraphsTransferAtReplayOnly) {
  Streamed eager(subject, subject.values), streamed(subject, subject.values);
  kinora::Run r = run;
  r.weights = &eager.weights;
  const auto want = denoise(subject, r);
  graph::BlockGraphs graphs;
  r.weights = &streamed.weights;
  r.policy = &graphs;
  EXPECT_TRUE(identical(denoise(subject, r), want));
  EXPECT_EQ(streamed.copies(), eager.copies());
  // Broken: a source whose slot a graph takes for a constant.
  Streamed inner(subject, subject.values);
  AsTensors broken(inner.weights, true);
  graph::BlockGraphs baked;
  r.weights = &broken;
  r.policy = &baked;
  EXPECT_GT(distance(denoise(subject, r), want), kVisible);
}

TEST_P(Pairs, StreamedWeightsAndTwoRanksOfOneProcessShareTheSlots) {
  const auto want = denoise(subject, run);
  Streamed streamed(subject, subject.values, 2);
  const auto other = streamed.weights.beside();
  on_two_ranks(subject, {}, [&](Rank& rank) {
    kinora::Run r = run;
    r.layout = &rank.layout;
    r.weights = rank.rank == 0 ? &streamed.weights : other.get();
    EXPECT_LT(distance(denoise(subject, r), want), kRounding);
  });
  for (const auto& [id, n] : streamed.copies()) EXPECT_LE(n, kCalls + 1) << (*subject.params)[id].name;
}

TEST_P(Pairs, AllFiveTogether) {
  const double threshold = usual_threshold();
  Watched one(make_pab()), fbc_of_one(make_first_block(threshold));
  Both both_of_one(one, fbc_of_one);
  const auto want = with(both_of_one);
  on_two_ranks(subject, {}, [&](Rank& rank) {
    Streamed streamed(subject, subject.values, 2);
    Watched pab(make_pab()), fbc(make_first_block(threshold));
    Both both(pab, fbc);
    offload::Ahead ahead(*subject.params, streamed.weights, &both);
    graph::BlockGraphs graphs({}, &ahead);
    const kinora::Run r{.weights = &streamed.weights, .policy = &graphs, .layout = &rank.layout};
    EXPECT_LT(distance(denoise(subject, r), want), kRounding);
    EXPECT_EQ(pab.sites, one.sites);
    EXPECT_EQ(fbc.calls, fbc_of_one.calls);
  });
}

}  // namespace
}  // namespace kinora::seams
