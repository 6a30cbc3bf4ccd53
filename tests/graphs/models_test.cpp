// Graphs on the models: every block of every family as a captured graph, whole and in pieces, under caches, and the
// autoencoder and the text encoder captured whole.
#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/graph/block_graphs.h"
#include "kinora/graph/noted_weights.h"
#include "kinora/graph/verify.h"
#include "kinora/models/open_sora/test_stdit3.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/tensor/allocator.h"
#include "kinora/text/t5.h"
#include "kinora/text/test_configs.h"
#include "seams/on_each_model.h"
#include "seams/policies.h"

namespace kinora::graph {
namespace {

using seams::OnEachModel;

class ModelGraphs : public OnEachModel {
 protected:
  std::vector<Tensor> eager() const { return seams::denoise(subject, run); }
};
INSTANTIATE_TEST_SUITE_P(Models, ModelGraphs,
                         testing::Values(&seams::make_stdit3, &seams::make_cogvideox,
                                         &seams::make_stdit3_with_given_frame, &seams::make_latte,
                                         &seams::make_wan_with_given_frame),
                         seams::name_of);

TEST_P(ModelGraphs, BlocksReplayBitForBitAndEqualOnesArePlannedOnce) {
  BlockGraphs graphs;
  EXPECT_TRUE(seams::identical(with(graphs), eager()));
  EXPECT_EQ(graphs.counts().graphs, subject.blocks);
  EXPECT_EQ(graphs.counts().replays, subject.blocks * static_cast<int>(std::size(seams::kSchedule)));
  EXPECT_EQ(graphs.counts().eager, 0);
  EXPECT_LE(graphs.counts().plans, 3);  // spatial, temporal, and Latte's first temporal one, which adds positions
  EXPECT_TRUE(graphs.mismatches().empty()) << graphs.mismatches().front();
}

TEST_P(ModelGraphs, PiecesStayWithinABudgetAndEqualTheWhole) {
  BlockGraphs whole;
  const auto want = with(whole);
  int with_pieces = 0;
  for (const bool exact : {true, false}) {
    for (const double share : {0.9, 0.75, 0.6}) {
      const auto budget = static_cast<int64_t>(share * static_cast<double>(whole.counts().whole_bytes));
      BlockGraphs graphs({.plan = {.budget = budget, .exact = exact, .align_rows = 4}, .tolerance = 1e-12});
      try {
        const auto got = with(graphs);
        if (exact) {
          EXPECT_TRUE(seams::identical(got, want)) << share;
        } else {
          EXPECT_LT(seams::distance(got, want), 1e-10) << share;
        }
      } catch (const ResourceError& e) {  // rows of a few tokens are not the same bits everywhere
        EXPECT_NE(e.hint().find("least that works"), std::string::npos);
        continue;
      }
      EXPECT_LE(graphs.counts().bytes, budget);
      ++with_pieces;
    }
  }
  EXPECT_GT(with_pieces, 0);
}

TEST_P(ModelGraphs, PiecesUnderBroadcastAreBroadcastAlone) {
  seams::Watched one(seams::make_pab()), inner(seams::make_pab());
  const auto want = with(one);
  BlockGraphs whole;
  with(whole);
  BlockGraphs graphs({.plan = {.budget = whole.counts().whole_bytes, .align_rows = 4}}, &inner);
  EXPECT_TRUE(seams::identical(with(graphs), want));
  EXPECT_EQ(inner.sites, one.sites);
  EXPECT_GT(graphs.counts().graphs, subject.blocks);  // by pattern of hits
}

TEST_P(ModelGraphs, PiecesUnderFirstBlockCacheAreThatCacheAlone) {
  seams::Watched one(seams::make_first_block(0.2)), inner(seams::make_first_block(0.2));
  const auto want = with(one);
  BlockGraphs graphs({}, &inner);
  EXPECT_TRUE(seams::identical(with(graphs), want));
  EXPECT_EQ(inner.calls, one.calls);
}

TEST_P(ModelGraphs, ATooSmallBudgetIsRefusedBeforeABlockRuns) {
  BlockGraphs graphs({.plan = {.budget = 100}});
  EXPECT_THROW(with(graphs), ResourceError);
  EXPECT_EQ(graphs.counts().replays, 0);
}

TEST_P(ModelGraphs, ForgottenConditioningIsRefused) {
  class Forgets : public Policy {
   public:
    explicit Forgets(BlockGraphs& inner) : inner_(inner) {}
    Streams stack(const kinora::Run& run, const Stack& blocks, Streams streams) override {
      Stack without = blocks;
      without.conditioning.clear();
      return inner_.stack(run, without, std::move(streams));
    }

   private:
    BlockGraphs& inner_;
  };
  BlockGraphs graphs;
  Forgets forgets(graphs);
  EXPECT_THROW(with(forgets), std::logic_error);
}

/// Captured whole, replayed, and in pieces within budgets: all equal to eager.
void expect_graph(const kinora::Run& run, const std::vector<Tensor>& inputs,
                  const std::function<Tensor(const kinora::Run&, const std::vector<Tensor>&)>& f, double tolerance) {
  NotedWeights noted(*run.weights);
  kinora::Run noting = run;
  noting.weights = &noted;
  const Graph graph = capture({inputs, {}}, [&](const auto& in) -> std::vector<Tensor> { return {f(noting, in)}; });
  const Tensor want = f(run, inputs);
  std::vector<std::string> mismatches;
  EXPECT_TRUE(replay(graph, inputs, {.poisons = true, .mismatches = &mismatches})[0].equal(want));
  EXPECT_TRUE(mismatches.empty()) << mismatches.front();
  PlanOptions options{.exact = tolerance == 0, .align_rows = 4};
  const int64_t least = least_budget(graph, options);
  const auto whole = whole_bytes(graph);
  const int64_t peak = *std::max_element(whole.begin(), whole.end());
  EXPECT_LT(least, peak);
  for (const double share : {0.0, 0.5}) {
    options.budget = least + static_cast<int64_t>(share * static_cast<double>(peak - least));
    const Chunked chunked(graph, plan(graph, options).regions);
    EXPECT_FALSE(chunked.regions().empty());
    EXPECT_TRUE(wrong_regions(chunked, inputs, tolerance).empty());
    const Tensor got = chunked(inputs)[0];
    EXPECT_LE((got - want).abs().max().item<double>(), tolerance * want.abs().max().item<double>());
  }
}

TEST(Graphs, TextEncoder) {
  at::NoGradGuard no_grad;
  const text::T5Encoder model(text::tiny_t5());
  ResidentWeights weights(drawn_weights(model.params(), 5));
  const kinora::Run run{.weights = &weights};
  const Tensor ids = at::randint(1, 37, {2, 24});
  // The table of embeddings is what goes in: ids are checked on the host, so they belong to the graph.
  class Table : public WeightSource {
   public:
    Table(WeightSource& rest, Tensor table) : rest_(rest), table_(std::move(table)) {}
    Tensor get(const Param& param) override { return param.name == "shared.weight" ? table_ : rest_.get(param); }

   private:
    WeightSource& rest_;
    Tensor table_;
  };
  const auto f = [&](const kinora::Run& r, const std::vector<Tensor>& in) {
    note_constant(ids);
    Table table(*r.weights, in[0]);
    const kinora::Run with_table{.weights = &table};
    return model.forward(with_table, ids);
  };
  expect_graph(run, {weights.get(*model.params().find("shared.weight"))}, f, 1e-12);
}

TEST(Graphs, Autoencoder) {
  at::NoGradGuard no_grad;
  models::VideoVaeConfig config;
  config.spatial = models::AutoencoderKlConfig();
  config.spatial.block_out_channels = {8, 8, 16};
  config.spatial.norm_num_groups = 4;
  config.temporal.filters = 8;
  config.temporal.num_res_blocks = 1;
  config.temporal.num_groups = 4;
  config.micro_frame_size = 0;
  config.micro_batch_size = 0;
  const models::VideoVae model(config);
  ResidentWeights weights(drawn_weights(model.params(), 5));
  const kinora::Run run{.weights = &weights};
  const Tensor z = normal({1, 4, 2, 6, 5}, 3);
  const auto frames = [&](const kinora::Run& r, const std::vector<Tensor>& in) { return model.decode(r, in[0], 5); };
  expect_graph(run, {z}, frames, 1e-10);
}

}  // namespace
}  // namespace kinora::graph
