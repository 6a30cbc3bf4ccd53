// Graphs on the decoders: prompts and steps of Llama and OPT replayed, and prompts in pieces within a budget.
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/graph/block_graphs.h"
#include "kinora/models/decoder/test_decoder.h"

namespace kinora::graph {
namespace {

using namespace models::decoder;

class DecoderGraphs : public testing::TestWithParam<DecoderConfig> {
 protected:
  DecoderGraphs() : decoder(GetParam()) {}
  /// Logits of a prompt and of three steps behind it.
  std::vector<Tensor> logits(Policy* policy, int64_t prompt = 48) const {
    kinora::Run run = decoder.run;
    run.policy = policy;
    const Tensor ids = tokens(1, prompt + 3);
    KvCache cache(decoder.model.config(), 1, prompt + 3, at::kDouble);
    std::vector<Tensor> out{decoder.logits(ids.narrow(1, 0, prompt), cache, run)};
    for (int64_t i = prompt; i < ids.size(1); ++i) out.push_back(decoder.logits(ids.narrow(1, i, 1), cache, run));
    return out;
  }
  TestDecoder decoder;
};
INSTANTIATE_TEST_SUITE_P(Families, DecoderGraphs, testing::Values(tiny_llama(), tiny_opt()),
                         [](const auto& each) { return each.param.family == Family::llama ? "Llama" : "Opt"; });

void expect_identical(const std::vector<Tensor>& got, const std::vector<Tensor>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].equal(want[i])) << i;
}

TEST_P(DecoderGraphs, PromptAndStepsReplayBitForBitAndEqualLayersArePlannedOnce) {
  BlockGraphs graphs;
  expect_identical(logits(&graphs), logits(nullptr));
  EXPECT_EQ(graphs.counts().eager, 0);
  EXPECT_EQ(graphs.counts().replays, 4 * 2 * 2);  // calls, layers, parts of a layer
  EXPECT_LE(graphs.counts().plans, graphs.counts().graphs / 2);
  EXPECT_TRUE(graphs.mismatches().empty()) << graphs.mismatches().front();
}

TEST_P(DecoderGraphs, APromptInPiecesIsTheSameBitsWithinItsBudget) {
  BlockGraphs whole;
  const auto want = logits(&whole);
  const int64_t whole_bytes = whole.counts().whole_bytes;
  const auto budget = static_cast<int64_t>(0.85 * static_cast<double>(whole_bytes));
  BlockGraphs pieces({.plan = {.budget = budget, .align_rows = 8}});
  expect_identical(logits(&pieces), want);
  EXPECT_LE(pieces.counts().bytes, budget);
  EXPECT_EQ(pieces.counts().whole_bytes, whole_bytes);
  EXPECT_GT(pieces.counts().verified, 0);
  EXPECT_EQ(pieces.counts().dropped, 0);
}

TEST_P(DecoderGraphs, ATooSmallBudgetIsRefused) {
  BlockGraphs graphs({.plan = {.budget = 100}});
  EXPECT_THROW(logits(&graphs), ResourceError);
}

}  // namespace
}  // namespace kinora::graph
