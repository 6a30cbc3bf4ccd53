#include "kinora/video/fit.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "kinora/base/error.h"
#include "kinora/base/test_asan.h"
#include "kinora/video/pieces.h"
#include "kinora/video/test_sizes.h"

namespace kinora::video {
namespace {

std::string refusal(const ModelSizes& sizes, const Plan& plan, const Room& room) {
  try {
    fit_into(sizes, plan, room);
  } catch (const ResourceError& error) {
    return std::string(error.what()) + "|" + error.hint();
  }
  return "fits";
}

TEST(Fit, TooLargeNamesFewerFramesThenASmallerPicture) {
  const ModelSizes sizes = open_sora();
  const Plan plan = plan_of(816, 720, 1280);
  const std::string frames = refusal(sizes, plan, {least_room(sizes, plan) - 1});
  EXPECT_NE(frames.find("816 frames of 720x1280 need"), std::string::npos) << frames;
  EXPECT_NE(frames.find("frames of 720x1280 would fit"), std::string::npos) << frames;
  const Plan picture = plan_of(1, 4320, 7680);
  const std::string smaller = refusal(sizes, picture, {least_room(sizes, picture) - 1});
  EXPECT_NE(smaller.find("1 frame of"), std::string::npos) << smaller;
  EXPECT_NE(smaller.find("would fit"), std::string::npos) << smaller;
  EXPECT_NE(refusal(sizes, plan, {uint64_t{1} << 20}).find("no size of this model fits"), std::string::npos);
}

TEST(Fit, ARefusalNamesTheLimitThatWouldDo) {
  const ModelSizes sizes = open_sora();
  const Plan plan = plan_of(816, 720, 1280);
  const uint64_t least = least_room(sizes, plan), held = uint64_t{300} << 20;
  EXPECT_LT(least, estimate_memory(sizes, plan).one_by_one());
  EXPECT_EQ(refusal(sizes, plan, {least}), "fits");
  EXPECT_EQ(fit_into(sizes, plan, {least}).one_by_one, true);
  EXPECT_GT(fit_into(sizes, plan, {least}).pieces.budget, 0);
  const std::string asked = "give --memory " + memory_figure(held + least);
  EXPECT_NE(refusal(sizes, plan, {least - 1, held, least * 2}).find(asked), std::string::npos);
  EXPECT_EQ(refusal(sizes, plan, {least - 1, held, least - 1}).find("--memory"), std::string::npos)
      << "the machine has not as much";
}

TEST(Fit, PiecesAreForWhatWouldNotFitOrTakeLonger) {
  ModelSizes sizes = open_sora();
  sizes.text_bytes = 0;  // or it would be the limit
  const Plan plan = plan_of(204, 480, 854);
  const MemoryEstimate whole = estimate_memory(sizes, plan);
  EXPECT_EQ(fit_into(sizes, plan, {whole.together()}).pieces.budget, 0);
  const Fit tight = fit_into(sizes, plan, {whole.one_by_one() - 1});
  EXPECT_GT(tight.pieces.budget, 0);
  EXPECT_LE(tight.pieces.bytes, tight.pieces.budget);
  EXPECT_GE(tight.pieces.slowdown, 1 - 1e-9);
  Plan tried = plan;
  tried.pieces = tight.pieces;
  EXPECT_LE(estimate_memory(sizes, tried).total(tight.one_by_one), whole.one_by_one() - 1);
  // Less memory, no less time.
  EXPECT_GE(fit_into(sizes, plan, {least_room(sizes, plan)}).pieces.slowdown, tight.pieces.slowdown);
}

TEST(Fit, NoneIsRefusedWhereAutoRunsInPieces) {
  const ModelSizes sizes = open_sora();
  Plan plan = plan_of(204, 480, 854);
  const uint64_t room = estimate_memory(sizes, plan).one_by_one() - 1;
  plan.chunk = "none";
  EXPECT_EQ(least_room(sizes, plan), room + 1);
  EXPECT_NE(refusal(sizes, plan, {room}), "fits");
}

TEST(Fit, AnArrangementOverRanksIsPlannedWithoutThem) {
  const ModelSizes sizes = open_sora();
  Plan plan = plan_of(204, 480, 854);
  const uint64_t one = least_room(sizes, plan);
  plan.spread.extent = {.frames = 60, .rows = 30 * 53};
  for (const char* layout : {"dsp", "ulysses", "ring", "megatron"}) {
    plan.spread.arrangement = {.layout = layout, .home = Axis::rows, .ranks = 4};
    const BlockPieces blocks(sizes, plan, nullptr);
    EXPECT_GT(blocks.least(), 0) << layout;
    EXPECT_THROW(blocks.within(blocks.least() / 2), ResourceError);
    EXPECT_LE(least_room(sizes, plan), one) << layout;
  }
}

TEST(Fit, BatchesShrinkBeforeARequestIsRefused) {
  const ModelSizes sizes = open_sora();
  Plan plan = plan_of(51, 240, 426, 8);
  plan.chunk = "none";
  const uint64_t one = estimate_memory(sizes, plan_of(51, 240, 426)).together();
  EXPECT_EQ(fit_into(sizes, plan, {one}).batch, 1);
  EXPECT_EQ(fit_into(sizes, plan, {one * 100}).batch, 8);
}

TEST(Fit, ThenBranchesOfGuidanceComeApart) {
  ModelSizes sizes = open_sora();
  sizes.text_bytes = 0;  // or it would be the limit
  Plan plan = plan_of(204, 480, 854, 2);
  plan.chunk = "none";
  Plan one = plan_of(204, 480, 854), apart = one;
  apart.branches_apart = true;
  EXPECT_LT(estimate_memory(sizes, apart).denoise, estimate_memory(sizes, one).denoise * 6 / 10);
  one.chunk = "none";
  const uint64_t least = estimate_memory(sizes, apart).one_by_one();
  for (const Plan& asked : {plan, one}) {
    EXPECT_FALSE(fit_into(sizes, asked, {estimate_memory(sizes, one).together()}).branches_apart);
    const Fit fit = fit_into(sizes, asked, {least});
    EXPECT_EQ(fit.batch, 1);
    EXPECT_TRUE(fit.branches_apart);
    EXPECT_EQ(least_room(sizes, asked), least);
  }
  const Policy cache;
  EXPECT_GT(least_room(sizes, one, &cache), least) << "a cache looks at both branches";
  one.guidance_scale = 1;
  EXPECT_FALSE(fit_into(sizes, one, {least_room(sizes, one)}).branches_apart) << "without guidance there is one";
}

/// Where no blocks have to be looked at.
TEST(Fit, DecidesWithinFiftyMilliseconds) {
  if (kIsAsan) GTEST_SKIP() << "what is measured is the program's time";
  const std::clock_t begin = std::clock();
  EXPECT_THROW(fit_into(open_sora(), plan_of(816, 2160, 3840), memory_room(uint64_t{64} << 20)), ResourceError);
  EXPECT_NO_THROW(fit_into(open_sora(), plan_of(51, 144, 256), {uint64_t{64} << 30}));
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 0.05);
}

TEST(Fit, DecidesWithinASecondInPieces) {
  if (kIsAsan) GTEST_SKIP() << "what is measured is the program's time";
  const ModelSizes sizes = open_sora();
  const Plan plan = plan_of(816, 720, 1280);
  const uint64_t least = least_room(sizes, plan);
  const std::clock_t begin = std::clock();
  EXPECT_THROW(fit_into(sizes, plan, {least - 1}), ResourceError);
  EXPECT_NO_THROW(fit_into(sizes, plan, {least}));
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 1);
}

}  // namespace
}  // namespace kinora::video
