// One request over many ranks gives the clip of one process.
#include "kinora/video/spread.h"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "kinora/base/error.h"
#include "kinora/comm/threads.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/test_model.h"

namespace kinora::video {
namespace {

using Ranks = comm::Communicator;

/// Frames of one grey each.
ReferencePtr greys(int64_t frames) {
  auto clip = std::make_shared<Reference>(Reference{"greys", media::make_frames(frames, 16, 24, 8)});
  for (int64_t i = 0; i < frames; ++i)
    std::fill_n(clip->frames.frame(i), clip->frames.frame_bytes(), static_cast<uint8_t>(40 + 20 * i));
  return clip;
}

class SpreadTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TestModel;
    model_->write();
  }
  static void TearDownTestSuite() { delete model_; }

  static Pipeline load(Ranks* ranks) {
    PipelineOptions options;
    options.paths.model = model_->folder;
    options.dtype = at::kFloat;
    options.ranks = ranks;
    return Pipeline::load(options);
  }
  /// 9 frames of 16x24: latents [5, 2, 3] in chunks of [3, 2], so 5 frames of 2 rows.
  static Request red_ball(const std::string& parallel = "auto") {
    Request request;
    request.prompts = {"a red ball"};
    request.seed = 5;
    request.parallel = parallel;
    return request;
  }
  static std::vector<Clip> by_one(const Request& request) { return load(nullptr).generate(request); }
  /// What the first of `ranks` ranks has; that the others have the same latents, and no frames.
  static std::vector<Clip> by_ranks(int ranks, const Request& request) {
    std::vector<Clip> first;
    std::vector<std::vector<Clip>> others;
    std::mutex mutex;
    comm::run_ranks(ranks, [&](Ranks& group) {
      Pipeline pipeline = load(&group);
      std::vector<Clip> clips = pipeline.generate(request);
      const std::lock_guard lock(mutex);
      (group.rank() == 0 ? first : others.emplace_back()) = std::move(clips);
    });
    for (const auto& clips : others) {
      for (size_t i = 0; i < clips.size(); ++i) {
        EXPECT_TRUE(clips[i].latents.equal(first.at(i).latents));
        EXPECT_EQ(clips[i].frames.frames, 0);
      }
    }
    return first;
  }
  static TestModel* model_;
};
TestModel* SpreadTest::model_ = nullptr;

/// Frames are bytes: where latents differ in their last bits, a value may fall on the other side of a half.
void expect_same_clip(const Clip& clip, const Clip& of_one) {
  ASSERT_EQ(clip.frames.rgb.size(), of_one.frames.rgb.size());
  EXPECT_TRUE(at::allclose(clip.latents, of_one.latents, 1e-4, 1e-5)) << (clip.latents - of_one.latents).abs().max();
  int most = 0;
  for (size_t i = 0; i < clip.frames.rgb.size(); ++i)
    most = std::max(most, std::abs(int{clip.frames.rgb[i]} - int{of_one.frames.rgb[i]}));
  EXPECT_LE(most, 1);
}

TEST_F(SpreadTest, EveryLayoutMakesTheClipOfOneProcess) {
  const std::vector<Clip> one = by_one(red_ball());
  for (const int ranks : {2, 3, 4}) {
    for (const char* name : {"auto", "dsp", "dsp-stream", "ulysses", "ring", "megatron"}) {
      SCOPED_TRACE(testing::Message() << name << " on " << ranks);
      expect_same_clip(by_ranks(ranks, red_ball(name))[0], one[0]);
    }
  }
  for (const auto& [name, ranks] :
       std::map<std::string, int>{{"guidance", 2}, {"guidance+dsp", 4}, {"guidance+ring", 4}, {"ulysses+ring", 4}}) {
    SCOPED_TRACE(name);
    expect_same_clip(by_ranks(ranks, red_ball(name))[0], one[0]);
  }
}

TEST_F(SpreadTest, EveryWayToMakeAClipWorksOnRanks) {
  Request request = red_ball("dsp");
  request.prompts = {"a red ball", "a blue square moves left", "a ball"};
  request.references = {greys(1)};
  request.loops = 2;
  request.seamless = true;
  request.negative_prompt = "fast";
  const auto one = by_one(request), three = by_ranks(3, request);
  ASSERT_EQ(three.size(), 3U);
  for (size_t i = 0; i < 3; ++i) expect_same_clip(three[i], one[i]);

  Request join = red_ball();
  join.before = greys(9), join.after = greys(9);
  expect_same_clip(by_ranks(2, join)[0], by_one(join)[0]);
}

TEST_F(SpreadTest, ARankOfTwoTakesHalfOfTheActivations) {
  Request request = red_ball("dsp");
  request.num_frames = 12, request.height = 256, request.width = 256;
  const Pipeline pipeline = load(nullptr);
  const auto denoise = [&](int ranks) {
    request.ranks = ranks;
    return static_cast<double>(estimate_memory(pipeline.sizes(), pipeline.plan(request)).denoise);
  };
  EXPECT_NEAR(denoise(2) / denoise(1), 0.5, 0.1);
  EXPECT_LT(denoise(3), denoise(2));
}

TEST_F(SpreadTest, RanksDrawOneSeed) {
  Request request = red_ball();
  request.seed.reset();
  std::set<uint64_t> seeds;
  std::mutex mutex;
  comm::run_ranks(3, [&](Ranks& group) {
    const Plan plan = load(&group).plan(request);
    const std::lock_guard lock(mutex);
    seeds.insert(plan.seed);
  });
  EXPECT_EQ(seeds.size(), 1U);
}

TEST_F(SpreadTest, AReusedAttentionIsNotExchanged) {
  Request request = red_ball("dsp");
  request.steps = 8;
  request.num_frames = 12;  // 6 latent frames of 6 rows: either axis could be home
  const auto exchanges = [&](const std::string& cache) {
    request.cache = cache;
    int64_t calls = 0;
    int64_t reused = 0, computed = 0;
    comm::run_ranks(2, [&](Ranks& group) {
      Pipeline pipeline = load(&group);
      Hooks hooks;
      hooks.on_cache = [&](const cache::Method& method) {
        if (group.rank() > 0) return;
        const auto& hits = method.hits().at("temporal");
        reused = hits.reused, computed = hits.computed;
      };
      const Plan plan = pipeline.plan(request);
      // Temporal attention is reused longest: it is the one that should exchange.
      EXPECT_EQ(plan.spread.arrangement.home, Axis::frames);
      pipeline.generate(plan, hooks);
      if (group.rank() == 0) calls = pipeline.traffic().of("dsp there", "all_to_all").calls;
    });
    EXPECT_EQ(calls, cache == "none" ? 8 * model_->transformer.depth : computed);
    return std::pair(calls, reused);
  };
  const auto [all, none] = exchanges("none");
  const auto [left, reused] = exchanges("pab:window=0..1000,mlp=off");
  EXPECT_GT(reused, 0);
  EXPECT_EQ(left, all - reused);
}

TEST_F(SpreadTest, ACacheThatLooksAtValuesDecidesForAllRanks) {
  Request request = red_ball();
  request.steps = 8;
  request.cache = "first-block:threshold=0.3";
  expect_same_clip(by_ranks(3, request)[0], by_one(request)[0]);
  request.parallel = "guidance";
  EXPECT_THROW(by_ranks(2, request), UsageError);
}

TEST_F(SpreadTest, OneRankThatIsToldToStopStopsAll) {
  std::atomic<int> cancelled = 0;
  comm::run_ranks(3, [&](Ranks& group) {
    Pipeline pipeline = load(&group);
    std::stop_source stop;
    Hooks hooks;
    hooks.cancel = stop.get_token();
    int calls = 0;
    hooks.on_progress = [&](Stage stage, int64_t done, int64_t) {
      if (stage == Stage::denoise) calls = static_cast<int>(done);
      if (stage == Stage::denoise && done == 1 && group.rank() == 1) stop.request_stop();
    };
    EXPECT_THROW(pipeline.generate(red_ball(), hooks), CancelledError);
    EXPECT_EQ(calls, 1);
    ++cancelled;
  });
  EXPECT_EQ(cancelled, 3);
}

TEST_F(SpreadTest, RanksWithOtherRequestsAreRefusedOnAll) {
  std::atomic<int> refused = 0;
  comm::run_ranks(2, [&](Ranks& group) {
    Request request = red_ball();
    if (group.rank() == 1) request.prompts = {"a blue ball"};
    Pipeline pipeline = load(&group);
    try {
      pipeline.generate(request);
    } catch (const PeerError& error) {
      EXPECT_NE(std::string(error.what()).find("blue"), std::string::npos) << error.what();
      ++refused;
    }
  });
  EXPECT_EQ(refused, 2);
}

TEST_F(SpreadTest, AJobGoesOnWithRanks) {
  const Request request = red_ball("dsp");
  const std::vector<Clip> one = by_one(request);
  Job job;
  {
    Pipeline pipeline = load(nullptr);
    std::stop_source stop;
    Hooks hooks;
    hooks.cancel = stop.get_token();
    hooks.on_job = [&](const Job& now) {
      job = now;
      stop.request_stop();
    };
    EXPECT_THROW(pipeline.generate(request, hooks), CancelledError);
  }
  std::vector<Clip> made;
  comm::run_ranks(2, [&](Ranks& group) {
    Pipeline pipeline = load(&group);
    auto clips = pipeline.generate(pipeline.plan(request), {}, job);
    if (group.rank() == 0) made = std::move(clips);
  });
  expect_same_clip(made.at(0), one[0]);
}

TEST_F(SpreadTest, WhatCannotBeSpreadIsRefusedWithWhatFits) {
  const auto refusal = [&](const Request& request) -> std::string {
    try {
      load(nullptr).plan(request);
    } catch (const UsageError& error) {
      return concat(error.what(), " / ", error.hint());
    }
    return "nothing was refused";
  };
  Request request = red_ball("dps");
  request.ranks = 2;
  EXPECT_NE(refusal(request).find("ulysses"), std::string::npos) << refusal(request);
  request.parallel = "auto", request.ranks = 64;
  EXPECT_NE(refusal(request).find("at most"), std::string::npos) << refusal(request);
  request.ranks = 2, request.parallel = "guidance", request.guidance_scale = 1.0;
  EXPECT_NE(refusal(request).find("there is no guidance"), std::string::npos) << refusal(request);
  request.parallel = "auto";
  const Pipeline pipeline = load(nullptr);
  const Plan plan = pipeline.plan(request);
  EXPECT_EQ(plan.spread.ranks(), 2);
  EXPECT_NE(plan.spread.reason, "");
  EXPECT_THROW(load(nullptr).generate(plan), UsageError);  // made for two ranks
}

}  // namespace
}  // namespace kinora::video
