// Streamed weights make the clip of resident ones, alone, under caches and on ranks.
#include "kinora/video/weight_budget.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/comm/threads.h"
#include "kinora/offload/blocks.h"
#include "kinora/video/fit.h"
#include "kinora/video/parts.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/test_model.h"

namespace kinora::video {
namespace {

TEST(Offload, IsReadFromItsText) {
  EXPECT_FALSE(parse_offload("none").streams);
  EXPECT_TRUE(parse_offload("auto").streams);
  EXPECT_FALSE(parse_offload("auto").resident_blocks);
  EXPECT_EQ(parse_offload("stream:0").resident_blocks, 0);
  EXPECT_EQ(parse_offload("stream:12").resident_blocks, 12);
  for (const char* text :
       {"", "stream", "stream:", "stream:x", "stream:-1", "stream:1x", "stream 1", "disk", "stream:99999999999"}) {
    EXPECT_THROW(parse_offload(text), UsageError) << text;
  }
}

class OffloadTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TestModel;
    model_->transformer.hidden_size = 96;  // matrices that are worth streaming
    model_->write();
  }
  static void TearDownTestSuite() { delete model_; }

  static Pipeline load(const std::string& offload, comm::Communicator* ranks = nullptr,
                       at::ScalarType dtype = at::kFloat) {
    PipelineOptions options;
    options.paths.model = model_->folder;
    options.dtype = dtype;
    options.ranks = ranks;
    options.offload = parse_offload(offload);
    return Pipeline::load(options);
  }
  static Request red_ball() {
    Request request;
    request.prompts = {"a red ball", "a blue square"};
    request.seed = 5;
    return request;
  }
  static bool is_same(const std::vector<Clip>& a, const std::vector<Clip>& b) {
    bool same = a.size() == b.size();
    for (size_t i = 0; same && i < a.size(); ++i) {
      same = a[i].latents.equal(b[i].latents) && a[i].frames.rgb == b[i].frames.rgb;
    }
    return same;
  }
  static TestModel* model_;
};
TestModel* OffloadTest::model_ = nullptr;

TEST_F(OffloadTest, GivesTheSameBytesAsResidentWeights) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto want = load("none", nullptr, dtype).generate(red_ball());
    for (const char* offload : {"auto", "stream:0", "stream:1", "stream:4"}) {
      Pipeline pipeline = load(offload, nullptr, dtype);
      EXPECT_TRUE(is_same(pipeline.generate(red_ball()), want)) << offload << " " << dtype;
      EXPECT_TRUE(is_same(pipeline.generate(red_ball()), want)) << offload << " once more";
    }
  }
}

TEST_F(OffloadTest, GivesTheSameBytesUnderACache) {
  Request request = red_ball();
  request.steps = 6;
  for (const char* cache : {"pab", "first-block:threshold=0.5"}) {
    request.cache = cache;
    EXPECT_TRUE(is_same(load("stream:0").generate(request), load("none").generate(request))) << cache;
  }
}

TEST_F(OffloadTest, GivesTheSameBytesOnRanks) {
  const auto on_two = [&](const std::string& parallel, const std::string& offload) {
    std::vector<Clip> first;
    comm::run_ranks(2, [&](comm::Communicator& group) {
      Request request = red_ball();
      request.parallel = parallel;
      request.num_frames = 17;
      Pipeline pipeline = load(offload, &group);
      const Plan plan = pipeline.plan(request);
      EXPECT_EQ(plan.spread.reason.find("exchanged in 2 pieces") != std::string::npos, parallel == "dsp/2")
          << plan.spread.reason;
      auto clips = pipeline.generate(plan);
      if (group.rank() == 0) first = std::move(clips);
    });
    return first;
  };
  const auto resident = on_two("dsp", "none");
  for (const char* parallel : {"dsp", "dsp/2"})
    EXPECT_TRUE(is_same(on_two(parallel, "stream:0"), resident)) << parallel;
}

TEST_F(OffloadTest, TheHostsMemoryFeedsADevice) {
  const models::STDiT3 transformer(model_->transformer);
  const Params& params = transformer.params();
  const auto part = [&] { return Part(params, model_->folder / "transformer", {.dtype = at::kFloat}); };
  Part whole = part(), fed = part();
  const uint64_t least = offload::stream_with(params, 4, 0).bytes(), more = offload::stream_with(params, 4, 1).bytes();
  fed.host_memory = more;
  WeightSource &want = whole.loaded({}), &got = fed.loaded(least);
  ASSERT_TRUE(fed.streamed->host);
  const offload::StreamPlan& in_host = fed.streamed->host->weights.plan();
  EXPECT_EQ(std::count(in_host.resident.begin(), in_host.resident.end(), true), 1);
  for (int pass = 0; pass < 2; ++pass) {
    for (const Param& p : params) EXPECT_TRUE(got.get(p).equal(want.get(p))) << p.name;
  }
  // Of what the device is given, one block is in the host's memory and passes no ring there.
  const auto read = fed.streamed->host->weights.counts().copies;
  int kept = 0;
  for (const auto& [id, times] : fed.streamed->weights.counts().copies) {
    const int block = in_host.blocks.of.at(static_cast<size_t>(id));
    const bool stays = in_host.resident.at(static_cast<size_t>(block));
    kept += stays;
    EXPECT_EQ(read.count(id) == 0, stays) << params[id].name << " went " << times << " times";
  }
  EXPECT_GT(kept, 0);
  Part alone = part();
  alone.host_memory = least - 1;
  EXPECT_THROW(alone.loaded(least), ResourceError);
  PipelineOptions options;
  options.paths.model = model_->folder, options.host_memory = least;
  EXPECT_THROW(Pipeline::load(options), UsageError) << "the CPU has no other memory";
}

TEST_F(OffloadTest, TheBuiltInModelGivesTheSameBytes) {
  const auto clip = [](const std::string& offload) {
    PipelineOptions options;
    options.paths.model = "assets/shapes";
    options.dtype = at::kFloat;
    options.offload = parse_offload(offload);
    Request request;
    request.prompts = {"a red ball moves to the right on grass"};
    request.seed = 7, request.steps = 3, request.num_frames = 9;
    return Pipeline::load(options).generate(request);
  };
  EXPECT_TRUE(is_same(clip("stream:2"), clip("none")));
}

TEST_F(OffloadTest, StreamsOnlyWhatDoesNotFit) {
  const models::STDiT3 transformer(model_->transformer);
  const Pipeline pipeline = load("auto");
  ModelSizes sizes = pipeline.sizes(), resident = sizes;
  resident.streamed.reset();
  Request request = red_ball();
  request.prompts.resize(1);
  request.chunk = "none", request.guidance_scale = 1;
  const Plan plan = pipeline.plan(request);
  EXPECT_FALSE(plan.weights.transformer);  // all of it fits here
  const uint64_t all = estimate_memory(sizes, plan).one_by_one();
  const uint64_t least_weights = offload::stream_with(transformer.params(), 4, 0).bytes();
  EXPECT_EQ(sizes.streamed->transformer_bytes, least_weights);
  const uint64_t block = (sizes.transformer_bytes - least_weights) / 2;  // four blocks, and two stand in the ring
  const uint64_t least = all - 2 * block;
  EXPECT_EQ(least_room(sizes, plan), least);
  EXPECT_TRUE(fit_into(sizes, plan, {all}).one_by_one);
  EXPECT_FALSE(fit_into(sizes, plan, {all}).weights.transformer);
  for (const uint64_t room : {least, least + block, all - 1}) {
    EXPECT_THROW(fit_into(resident, plan, {room}), ResourceError);
    const Fit fit = fit_into(sizes, plan, {room});
    EXPECT_TRUE(fit.one_by_one);
    ASSERT_TRUE(fit.weights.transformer);
    EXPECT_EQ(*fit.weights.transformer, least_weights + (room - least));
    const auto streams = offload::plan_stream(transformer.params(), 4, *fit.weights.transformer);
    EXPECT_EQ(std::count(streams.resident.begin(), streams.resident.end(), true),
              static_cast<int64_t>((room - least) / block));
  }
  EXPECT_THROW(fit_into(sizes, plan, {least - 1}), ResourceError);
  EXPECT_THROW(load("stream:5"), UsageError);  // of four
}

TEST_F(OffloadTest, WeightsAndActivationsShareALimit) {
  constexpr uint64_t kSlack = uint64_t{1} << 18;  // what a process holds moves by pages
  Pipeline pipeline = load("auto");
  Request request = red_ball();
  request.prompts.resize(1);
  const Plan whole = pipeline.plan(request);
  const auto want = pipeline.generate(whole);
  ModelSizes sizes = pipeline.sizes(), resident = sizes;
  resident.streamed.reset();
  const uint64_t least = least_room(sizes, whole);
  EXPECT_LT(least, least_room(resident, whole));
  const Fit fit = fit_into(sizes, whole, {least});
  EXPECT_GT(fit.pieces.budget, 0);
  ASSERT_TRUE(fit.weights.transformer);
  const Plan both = fitted(whole, fit);
  EXPECT_LE(estimate_memory(sizes, both).one_by_one(), least);
  EXPECT_TRUE(is_same(load("auto").generate(both), want));
  EXPECT_THROW(fit_into(sizes, whole, {least - 1}), ResourceError);
  // As a limit of the process, beside what it holds.
  const Pipeline limited = load("auto");
  EXPECT_EQ(limited.least_room(whole), least);
  request.memory = memory_room(0).held + least + kSlack;
  EXPECT_TRUE(limited.plan(request).weights.transformer);
  request.memory = memory_room(0).held + least - kSlack;
  EXPECT_THROW(limited.plan(request), ResourceError);
}

TEST_F(OffloadTest, WeightsThatAreDamagedWhileInUseAreAnError) {
  TestModel own;
  own.transformer.hidden_size = 96;
  own.write();
  PipelineOptions options;
  options.paths.model = own.folder;
  options.offload = parse_offload("stream:0");
  Pipeline pipeline = Pipeline::load(options);
  Hooks hooks;
  hooks.on_progress = [&](Stage stage, int64_t done, int64_t) {
    if (stage == Stage::denoise && done == 1) std::filesystem::resize_file(own.transformer_file(), 5000);
  };
  EXPECT_THROW(pipeline.generate(pipeline.plan(red_ball()), hooks), DataError);
}

}  // namespace
}  // namespace kinora::video
