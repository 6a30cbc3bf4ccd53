// Requests in pieces: the bits of the plain run, within what was planned, under every technique that attaches beside.
#include "kinora/video/pieces.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <array>
#include <mutex>
#include <regex>
#include <string>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/test_asan.h"
#include "kinora/comm/threads.h"
#include "kinora/graph/block_graphs.h"
#include "kinora/tensor/allocator.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/stdit3_denoiser.h"
#include "kinora/video/test_model.h"

namespace kinora::video {
namespace {

class PiecesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    counted_ = new Ledger;  // tensors may be freed after main
    install_counting_allocator(*counted_);
    at::set_num_threads(1);  // attention and products take memory for each
    model_ = new TestModel;
    model_->transformer.hidden_size = 96;
    model_->transformer.num_heads = 3;
    model_->write();
  }
  static void TearDownTestSuite() { delete model_; }
  static Pipeline load(at::ScalarType dtype = at::kFloat, comm::Communicator* ranks = nullptr) {
    PipelineOptions options;
    options.paths.model = model_->folder;
    options.dtype = dtype, options.ledger = counted_, options.ranks = ranks;
    options.offload.streams = false;  // what weights could give is weighed in weight_budget_test.cpp
    return Pipeline::load(options);
  }
  /// 6 latent frames of 96 rows.
  static Request request(const char* cache = "none") {
    Request asked;
    asked.prompts = {"a red ball moves right"};
    asked.num_frames = 12, asked.height = 32, asked.width = 48, asked.steps = 4;
    asked.seed = 5, asked.cache = cache;
    return asked;
  }
  struct Made {
    at::Tensor latents;
    uint64_t denoise = 0;  ///< the most that was counted, without weights
  };
  static Made make(Pipeline& pipeline, const Plan& plan) {
    Made made;
    Hooks hooks;
    hooks.on_progress = [&](Stage stage, int64_t done, int64_t total) {
      if (done == 0) counted_->reset_peaks();
      if (stage == Stage::denoise && done == total)
        made.denoise =
            counted_->peak_total() - counted_->current(MemoryKind::weights) - counted_->current(MemoryKind::mapped);
    };
    hooks.on_frames = [](int64_t, const media::Frames&, int64_t) {};
    made.latents = pipeline.generate(plan, hooks)[0].latents;
    return made;
  }
  /// The plan with its blocks in pieces: as small as can be, or a share of the way to whole.
  static Plan in_pieces(const Pipeline& pipeline, Plan plan, const Policy* cache, double share) {
    const BlockPieces blocks(pipeline.sizes(), plan, cache);
    const auto whole = static_cast<double>(estimate_memory(pipeline.sizes(), plan).blocks);
    const auto least = static_cast<double>(blocks.least());
    plan.pieces = blocks.within(static_cast<int64_t>(least + share * (whole - least)));
    return plan;
  }
  static TestModel* model_;
  static Ledger* counted_;
};
TestModel* PiecesTest::model_ = nullptr;
Ledger* PiecesTest::counted_ = nullptr;

void expect_as_planned(uint64_t planned, uint64_t counted, double most = 1.15) {
  const double ratio = static_cast<double>(planned) / static_cast<double>(counted);
  EXPECT_GT(ratio, 0.95);
  EXPECT_LT(ratio, most);
}

TEST_F(PiecesTest, AreTheBitsOfTheWholeWithinWhatWasPlanned) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Pipeline pipeline = load(dtype);
    const Plan plan = pipeline.plan(request());
    const Made whole = make(pipeline, plan);
    for (const double share : {0.0, 0.3, 0.6}) {
      SCOPED_TRACE(testing::Message() << c10::toString(dtype) << " " << share);
      const Plan cut = in_pieces(pipeline, plan, nullptr, share);
      const Made made = make(pipeline, cut);
      EXPECT_TRUE(made.latents.equal(whole.latents)) << (made.latents - whole.latents).abs().max();
      EXPECT_LT(made.denoise, whole.denoise);
      expect_as_planned(estimate_memory(pipeline.sizes(), cut).denoise, made.denoise);
    }
  }
}

TEST_F(PiecesTest, BranchesApartAreTheBitsOfBothTogether) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Pipeline pipeline = load(dtype);
    Plan plan = pipeline.plan(request());
    const Made together = make(pipeline, plan);
    plan.branches_apart = true;
    for (const bool in_pieces : {false, true}) {
      SCOPED_TRACE(testing::Message() << c10::toString(dtype) << (in_pieces ? " in pieces" : ""));
      const Plan apart = in_pieces ? PiecesTest::in_pieces(pipeline, plan, nullptr, 0) : plan;
      const Made made = make(pipeline, apart);
      EXPECT_TRUE(made.latents.equal(together.latents)) << (made.latents - together.latents).abs().max();
      EXPECT_LT(made.denoise, together.denoise * 7 / 10);
      if (in_pieces) expect_as_planned(estimate_memory(pipeline.sizes(), apart).denoise, made.denoise);
    }
  }
}

TEST_F(PiecesTest, UnderACacheTheyAreThatCacheAlone) {
  if (kIsAsan) GTEST_SKIP() << "the limit is the process's, and what was freed stays with the sanitizer";
  // PAB keeps what blocks add, which then leaves them whole; the others keep nothing at sites.
  for (const char* cache : {"pab:window=0..1000", "first-block:threshold=0.2", "faster"}) {
    Request asked = request(cache);
    Pipeline pipeline = load();
    const Plan plan = pipeline.plan(asked);
    const Made whole = make(pipeline, plan);
    const MemoryEstimate all = estimate_memory(pipeline.sizes(), plan);
    for (const double share : {0.2, 0.45}) {
      SCOPED_TRACE(testing::Message() << cache << " " << share);
      Pipeline limited = load();  // has its weights before it
      const auto less = static_cast<uint64_t>(share * static_cast<double>(all.blocks));
      asked.memory = resident_bytes() + all.one_by_one() - less;
      const Plan cut = limited.plan(asked);
      ASSERT_GT(cut.pieces.budget, 0);
      const Made made = make(limited, cut);
      EXPECT_TRUE(made.latents.equal(whole.latents)) << (made.latents - whole.latents).abs().max();
      EXPECT_LT(made.denoise + less / 4, whole.denoise);  // blocks under PAB take less than the estimate of whole ones
      // All that PAB ever keeps counts, though the last of it comes when a block's activations have gone.
      expect_as_planned(estimate_memory(limited.sizes(), cut).denoise, made.denoise, 1.2);
    }
  }
}

TEST_F(PiecesTest, OverRanksTheyAreTheBitsOfThoseRanks) {
  for (const char* layout : {"dsp", "ulysses", "ring", "megatron"}) {
    SCOPED_TRACE(layout);
    Request asked = request();
    asked.parallel = layout, asked.steps = 2;
    std::mutex mutex;
    comm::run_ranks(2, [&](comm::Communicator& group) {
      Pipeline pipeline = load(at::kFloat, &group);
      const Plan plan = pipeline.plan(asked);
      const auto whole = pipeline.generate(plan);
      const Plan cut = in_pieces(pipeline, plan, nullptr, 0.1);
      const auto made = pipeline.generate(cut);
      const std::lock_guard lock(mutex);
      EXPECT_TRUE(made[0].latents.equal(whole[0].latents));
      EXPECT_GT(cut.pieces.budget, 0);
    });
  }
}

TEST_F(PiecesTest, BranchesHaveCaptionsOfTheirOwn) {
  const models::STDiT3 model(model_->transformer);
  ResidentWeights weights(drawn_weights(model.params(), 5, at::kFloat));
  const at::NoGradGuard no_grad;
  const auto text = [&](int64_t tokens, uint64_t seed) {
    return normal({tokens, model_->transformer.caption_channels}, seed).to(at::kFloat);
  };
  const Tensor latents = normal({2, model_->transformer.in_channels, 4, 8, 8}, 3).to(at::kFloat);
  const double schedule[] = {500};
  const Step step{.call = 0, .calls = 1, .timestep = 500, .schedule = schedule};
  const auto both = [&](Policy* policy) {
    kinora::Run run;
    run.weights = &weights, run.policy = policy;
    // As many tokens in all, shared out differently.
    STDiT3Denoiser denoiser(model, run, {text(3, 1), text(5, 2)}, {text(4, 6), text(4, 7)}, {64, 64, 8});
    std::vector<Tensor> out;
    for (const Branch branch : {Branch::cond, Branch::uncond})
      out.push_back(denoiser.predict(latents, step, std::array{branch})[0]);
    return out;
  };
  graph::BlockGraphs graphs;
  const auto plain = both(nullptr), replayed = both(&graphs);
  EXPECT_TRUE(replayed[0].equal(plain[0]));
  EXPECT_TRUE(replayed[1].equal(plain[1]));
}

TEST_F(PiecesTest, ALimitIsMetOrRefusedWithOneThatWorks) {
  Pipeline pipeline = load();
  Request asked = request();
  const Plan plan = pipeline.plan(asked);
  EXPECT_EQ(plan.pieces.budget, 0) << "memory is no limit here";
  const at::Tensor whole = make(pipeline, plan).latents;
  asked.memory = uint64_t{1} << 20;
  std::string hint;
  try {
    pipeline.plan(asked);
  } catch (const ResourceError& error) {
    hint = error.hint();
  }
  std::smatch figure;
  ASSERT_TRUE(std::regex_search(hint, figure, std::regex("--memory ([0-9]+)MB"))) << hint;
  asked.memory = std::stoull(figure[1]) * 1'000'000;
  const Plan cut = pipeline.plan(asked);
  EXPECT_TRUE(make(pipeline, cut).latents.equal(whole));
}

}  // namespace
}  // namespace kinora::video
