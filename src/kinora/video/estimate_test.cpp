#include "kinora/video/estimate.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "kinora/tensor/allocator.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/test_model.h"
#include "kinora/video/test_sizes.h"

namespace kinora::video {
namespace {

TEST(Estimate, GrowsWithFramesSizeAndBatch) {
  const ModelSizes sizes = open_sora();
  const uint64_t base = estimate_memory(sizes, plan_of(51, 480, 854)).together();
  EXPECT_GT(estimate_memory(sizes, plan_of(102, 480, 854)).together(), base);
  EXPECT_GT(estimate_memory(sizes, plan_of(51, 720, 1280)).together(), base);
  EXPECT_GT(estimate_memory(sizes, plan_of(51, 480, 854, 4)).together(), base);
}

TEST(Estimate, CountsTheFramesThatAreKept) {
  const ModelSizes sizes = open_sora();
  Plan plan = plan_of(51, 480, 854, 4);
  constexpr uint64_t kFrame = 3u * 480 * 854;
  EXPECT_EQ(estimate_memory(sizes, plan).output, static_cast<uint64_t>(sizes.vae.micro_batch_size) * kFrame);
  plan.collects_frames = true;
  EXPECT_EQ(estimate_memory(sizes, plan).output, 51 * kFrame);
  plan.keeps_clips = true;
  EXPECT_EQ(estimate_memory(sizes, plan).output, 4 * 51 * kFrame);
}

TEST(Estimate, OnePartAtATimeTakesLess) {
  const MemoryEstimate e = estimate_memory(open_sora(), plan_of(51, 480, 854));
  EXPECT_LT(e.one_by_one(), e.together());
  EXPECT_EQ(e.one_by_one(), e.output + std::max({e.text_peak(), e.denoise_peak(), e.decode_peak()}));
  EXPECT_GE(e.denoise_peak(), e.transformer_weights + e.denoise);
  EXPECT_GE(e.decode_peak(), e.vae_weights + e.decode);
}

Ledger& ledger() {
  static Ledger* const counted = new Ledger;
  static const bool is_installed = [] {
    install_counting_allocator(*counted);
    return true;
  }();
  static_cast<void>(is_installed);
  return *counted;
}

uint64_t weights_held() { return ledger().current(MemoryKind::weights) + ledger().current(MemoryKind::mapped); }

TEST(Estimate, AgreesWithTheLedger) {
  // bfloat16 convolutions pass over fewer temporaries with one thread; the estimate is for several.
  at::set_num_threads(2);
  ledger();
  TestModel model;
  model.transformer.hidden_size = 96;
  model.transformer.num_heads = 3;
  model.vae.spatial.block_out_channels = {16, 32, 32};
  model.vae.temporal.filters = 16;
  model.write();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Pipeline pipeline = Pipeline::load(
        {.paths = {.model = model.folder, .transformer = {}, .vae = {}, .text_encoder = {}, .tokenizer = {}},
         .dtype = dtype,
         .ledger = &ledger()});
    struct Size {
      int64_t frames, height, width;
      double guidance;
    };
    std::vector<Size> sizes{{17, 96, 128, 4.0}, {6, 160, 160, 1.0}};
    // In bfloat16 the ledger counts a picture of float32 sums for each thread, which so narrow a model never touches:
    // beside a single picture they would be a third.
    if (dtype == at::kFloat) sizes.push_back({1, 256, 192, 4.0});
    for (const Size& size : sizes) {
      Request request;
      request.prompts = {"a red ball moves right"};
      request.num_frames = size.frames, request.height = size.height, request.width = size.width,
      request.guidance_scale = size.guidance;
      request.steps = 2;
      const Plan plan = pipeline.plan(request);
      uint64_t denoise = 0, decode = 0;
      Hooks hooks;
      hooks.on_progress = [&](Stage stage, int64_t done, int64_t total) {
        if (done == 0) ledger().reset_peaks();
        const uint64_t peak = ledger().peak_total() - weights_held();
        if (stage == Stage::denoise && done == total) denoise = peak;
        if (stage == Stage::decode && done == total) decode = peak;
      };
      hooks.on_frames = [](int64_t, const media::Frames&, int64_t) {};
      pipeline.generate(plan, hooks);
      const MemoryEstimate e = estimate_memory(pipeline.sizes(), plan);
      const auto ratio = [](uint64_t guess, uint64_t counted) {
        return static_cast<double>(guess) / static_cast<double>(counted);
      };
      EXPECT_NEAR(ratio(e.denoise, denoise), 1.0, 0.15)
          << c10::toString(dtype) << " " << size.frames << "x" << size.height << "x" << size.width;
      EXPECT_NEAR(ratio(e.decode, decode), 1.0, 0.15)
          << c10::toString(dtype) << " " << size.frames << "x" << size.height << "x" << size.width;
    }
  }
}

}  // namespace
}  // namespace kinora::video
