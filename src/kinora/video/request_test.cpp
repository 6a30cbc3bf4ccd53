#include "kinora/video/request.h"

#include <gtest/gtest.h>

#include <limits>

#include "kinora/base/error.h"

namespace kinora::video {
namespace {

Request red_ball() {
  Request request;
  request.prompts = {"a red ball"};
  return request;
}

TEST(Request, WhatIsLeftOutComesFromTheDefaults) {
  const Plan plan = make_plan(
      red_ball(),
      {.height = 64, .width = 32, .num_frames = 17, .steps = 20, .guidance_scale = 3, .fps = 8, .plain_prompt = true});
  EXPECT_EQ(plan.height, 64);
  EXPECT_EQ(plan.width, 32);
  EXPECT_EQ(plan.num_frames, 17);
  EXPECT_EQ(plan.steps, 20);
  EXPECT_EQ(plan.guidance_scale, 3);
  EXPECT_EQ(plan.fps, 8);
  EXPECT_EQ(plan.texts[0].texts, plan.prompts);
}

TEST(Request, OpenSoraPromptsAreCleanedAndGetAScore) {
  const Plan plan = make_plan(red_ball(), {});
  EXPECT_NE(plan.texts[0].at(0).find("aesthetic score: 6.5"), std::string::npos);
  EXPECT_EQ(plan.prompts[0], "a red ball");
}

TEST(Request, NegativePromptsAreCleanedAsPromptsAre) {
  Request request = red_ball();
  request.negative_prompt = "A Red  Square <br>";
  EXPECT_EQ(make_plan(request, {}).negative_text, "a red square");
  EXPECT_EQ(make_plan(request, {.plain_prompt = true}).negative_text, request.negative_prompt);
}

TEST(Request, PlainPromptsTakeNoScores) {
  Request request = red_ball();
  request.scores = text::PromptScores{};
  EXPECT_NO_THROW(make_plan(request, {}));
  EXPECT_THROW(make_plan(request, {.plain_prompt = true}), UsageError);
}

TEST(Request, ResolutionAndAspectGiveASizeOfTheTables) {
  Request request = red_ball();
  request.resolution = "240p";
  const Plan plan = make_plan(request, {});
  EXPECT_EQ(plan.height, 240);
  EXPECT_EQ(plan.width, 426);
  request.height = 240;
  EXPECT_THROW(make_plan(request, {}), UsageError);
}

TEST(Request, APictureIsToldTo120FramesASecond) {
  Request request = red_ball();
  request.num_frames = 1;
  EXPECT_EQ(make_plan(request, {}).model_fps(), 120);
  request.num_frames = 2;
  EXPECT_EQ(make_plan(request, {}).model_fps(), 24);
}

TEST(Request, SeedsAreKeptOrDrawn) {
  Request request = red_ball();
  EXPECT_LE(make_plan(request, {}).seed, 1'000'000u);
  request.seed = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(make_plan(request, {}).seed, *request.seed);
}

TEST(Request, BadNumbersAreUsageErrors) {
  const auto refused = [](const auto& change) {
    Request request = red_ball();
    change(request);
    EXPECT_THROW(make_plan(request, {}, 8), UsageError);
  };
  refused([](Request& r) { r.height = 0; });
  refused([](Request& r) { r.width = -3; });
  refused([](Request& r) { r.width = 7; });
  refused([](Request& r) { r.height = 1 << 20; });
  refused([](Request& r) { r.num_frames = 0; });
  refused([](Request& r) { r.steps = 0; });
  refused([](Request& r) { r.guidance_scale = std::numeric_limits<double>::quiet_NaN(); });
  refused([](Request& r) { r.fps = 0; });
  refused([](Request& r) { r.batch = -1; });
}

TEST(Request, BadPromptsAreUsageErrors) {
  for (const std::string& prompt :
       {std::string(), std::string("   "), std::string(100'000, 'a'), std::string("\xff\xfe"),
        std::string("a {\"reference_path\": \"x.mp4\"}"), std::string("|0|a|3|b"), std::string("#####")}) {
    Request request;
    request.prompts = {prompt};
    EXPECT_THROW(make_plan(request, {}), UsageError) << prompt.substr(0, 40);
  }
  EXPECT_THROW(make_plan(Request{}, {}), UsageError);
  Request request = red_ball();
  request.negative_prompt = "";
  EXPECT_EQ(make_plan(request, {}).negative_text, "");
  request.negative_prompt = "\xff";
  try {
    make_plan(request, {});
    ADD_FAILURE();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "the negative prompt is not valid UTF-8 at byte 0");
  }
}

ReferencePtr black(int64_t frames) {
  return std::make_shared<Reference>(Reference{"black", media::make_frames(frames, 8, 8, 8)});
}

TEST(Request, SegmentsAreTextsOfLoops) {
  Request request;
  request.prompts = {"|0|a red ball|2|a blue ball"};
  request.loops = 3;
  const Plan plan = make_plan(request, {});
  EXPECT_EQ(plan.passes(), 3);
  EXPECT_EQ(plan.texts[0].at(1).substr(0, 10), "a red ball");
  EXPECT_EQ(plan.texts[0].at(2).substr(0, 11), "a blue ball");
  request.loops = 2;
  EXPECT_THROW(make_plan(request, {}), UsageError);
  request.seamless = true;  // the way back is a loop too
  EXPECT_EQ(make_plan(request, {}).passes(), 3);
}

TEST(Request, AReferenceStandsAtTheBeginningUnlessAStrategySaysOtherwise) {
  Request request = red_ball();
  request.references = {black(1), black(3)};
  Plan plan = make_plan(request, {});
  ASSERT_EQ(plan.given[0].strategy.size(), 1u);
  EXPECT_EQ(plan.given[0].strategy[0].target_start, 0);
  EXPECT_EQ(plan.given[0].strategy[0].length, 1);
  request.mask_strategy = "0,1,0,-2,2,0.5";
  plan = make_plan(request, {});
  EXPECT_EQ(plan.given[0].strategy[0].reference, 1);
  EXPECT_EQ(plan.given[0].strategy[0].edit_ratio, 0.5);
  for (const char* bad : {"0,2", "1", "0,-1", "0,0,0,0,1,2", "zero"}) {
    request.mask_strategy = bad;
    EXPECT_THROW(make_plan(request, {}), UsageError) << bad;
  }
  request.references.clear();
  request.mask_strategy = "0";
  EXPECT_THROW(make_plan(request, {}), UsageError);
}

TEST(Request, WaysThatDoNotFitOneAnotherAreUsageErrors) {
  const auto refused = [](const auto& change) {
    Request request = red_ball();
    change(request);
    EXPECT_THROW(make_plan(request, {}), UsageError);
  };
  refused([](Request& r) { r.loops = 0; });
  refused([](Request& r) { r.condition_frames = 0; });
  refused([](Request& r) { r.condition_edit = 1.5; });
  refused([](Request& r) { r.seamless = true, r.after = black(9); });
}

TEST(Request, TheResultHoldsWhatPassesShareOnce) {
  Request request = red_ball();
  request.num_frames = 20, request.loops = 3, request.before = black(7), request.after = black(4);
  Plan plan = make_plan(request, {});
  plan.head = {5, 2}, plan.tail = {4, 1};
  EXPECT_EQ(plan.total_frames(), 7 + 15 + 15 + (20 - 5 - 4) + 4);
  request.before = request.after = nullptr, request.loops = 1, request.seamless = true;
  plan = make_plan(request, {});
  plan.head = {5, 2}, plan.tail = {4, 1};
  EXPECT_EQ(plan.total_frames(), 20 + (20 - 5 - 4));
}

TEST(Request, DefaultsOfAFileAreChecked) {
  EXPECT_EQ(Defaults::from_json({{"steps", 5}}, "x").steps, 5);
  EXPECT_TRUE(Defaults::from_json({{"prompt", "plain"}}, "x").plain_prompt);
  EXPECT_THROW(Defaults::from_json({{"steps", 0}}, "x"), DataError);
  EXPECT_THROW(Defaults::from_json({{"prompt", "fancy"}}, "x"), DataError);
  EXPECT_THROW(Defaults::from_json({{"guidance_scale", -1}}, "x"), DataError);
  EXPECT_THROW(Defaults::from_json({{"fps", 0}}, "x"), DataError);
}

}  // namespace
}  // namespace kinora::video
