// The caches that own the loop over blocks or stand around the call, on a model that can be followed by hand.
#include <gtest/gtest.h>

#include "kinora/cache/toy_model.h"

namespace kinora::cache {
namespace {

using test::Course, test::follow, test::kBlocks, test::kCond;

const std::vector<double> kSchedule{1000, 990, 980, 700, 690, 680};

TEST(Caches, ComputeEverythingAtThresholdZero) {
  const Course plain = follow("none", kSchedule, {.growth = 0.01});
  EXPECT_EQ(plain.computed, std::vector<int>(6, kBlocks));
  for (const char* text : {"first-block:threshold=0", "dual-block:threshold=0", "tea:threshold=0,probe=modulated_input",
                           "easy:threshold=0,first=1", "mag:threshold=0,ratios=0.9+0.9", "taylor:interval=1",
                           "pab:full=1", "faster:full=1,uncond=1"}) {
    const Course course = follow(text, kSchedule, {.growth = 0.01});
    EXPECT_EQ(course.outputs, plain.outputs) << text;
    EXPECT_EQ(course.computed, plain.computed) << text;
  }
}

TEST(Caches, BranchesInOneCallAndAlone) {
  for (const char* text : {"first-block:threshold=0.03", "easy:threshold=0.05,first=1", "taylor:first=1,interval=2"})
    EXPECT_EQ(follow(text, kSchedule).outputs, follow(text, kSchedule, {.wanted = kCond}).outputs) << text;
}

TEST(FirstBlock, RunsTheRestWhereTheFirstBlockChanged) {
  const Course course = follow("first-block:threshold=0.03", kSchedule);
  EXPECT_EQ(course.computed, (std::vector<int>{4, 1, 1, 4, 1, 1}));
  EXPECT_NEAR(course.outputs[1], 1 + 0.99 + 9 * 1.0, 1e-6) << "the first block is new, the rest of call 0";
  EXPECT_NEAR(course.outputs[5], 1 + 0.68 + 9 * 0.7, 1e-6);
}

TEST(DualBlock, KeepsTheMiddleAndRunsBothEnds) {
  const Course course = follow("dual-block:threshold=0.03,first=1,last=1,warmup=1", kSchedule);
  EXPECT_EQ(course.computed, (std::vector<int>{4, 2, 2, 4, 2, 2}));
  EXPECT_NEAR(course.outputs[2], 1 + 0.98 * (1 + 4) + (2 + 3) * 1.0, 1e-6);
  EXPECT_EQ(follow("dual-block:threshold=0.03,first=1,warmup=1,in_a_row=1", kSchedule).computed,
            (std::vector<int>{4, 1, 4, 4, 1, 4}));
  EXPECT_EQ(follow("dual-block:threshold=0.03,first=1,warmup=1,most=3", kSchedule).computed,
            (std::vector<int>{4, 1, 1, 4, 1, 4}));
  EXPECT_EQ(follow("dual-block:threshold=0.03,first=1,warmup=2", kSchedule).computed,
            (std::vector<int>{4, 4, 1, 4, 1, 1}));
}

TEST(Tea, AddsChangesUpAndComputesTheEnds) {
  // The indicator is 1 + t: relative changes .005, .00503, .1414, .00588; the polynomial is the identity.
  const Course course = follow("tea:threshold=0.008,probe=modulated_input,coefficients=1+0", kSchedule);
  EXPECT_EQ(course.computed, (std::vector<int>{4, 0, 4, 4, 0, 4}));
  EXPECT_NEAR(course.outputs[1], 1 + 10 * 1.0, 1e-6);
  EXPECT_THROW(follow("tea:coefficients=1+2+3+4+5+6+7+8+9+10", kSchedule), UsageError);
}

TEST(Easy, MovesTheOutputWithTheLatents) {
  const Course plain = follow("none", kSchedule, {.growth = 0.001}),
               course = follow("easy:threshold=1,first=2", kSchedule, {.growth = 0.001});
  EXPECT_EQ(course.computed, (std::vector<int>{4, 4, 0, 0, 0, 4}))
      << "the rate is known after two, the last is computed";
  EXPECT_NEAR(course.outputs[3], plain.outputs[1] + 0.002, 1e-9);
  // A rate of 99: .0091 a call.
  EXPECT_EQ(follow("easy:threshold=0.02,first=2", kSchedule, {.growth = 0.001}).computed,
            (std::vector<int>{4, 4, 0, 0, 4, 4}));
}

TEST(Mag, ReusesUntilTheProductOfRatiosHasMoved) {
  const std::string ratios = "ratios=1+0.99+0.98+0.97+0.96+0.96";
  // From call 1: errors .01, then .01 + .0298, then a computation.
  EXPECT_EQ(follow("mag:threshold=0.05,retention=0.1,skips=5," + ratios, kSchedule).computed,
            (std::vector<int>{4, 0, 0, 4, 0, 4}));
  EXPECT_EQ(follow("mag:threshold=0.05,retention=0.1,skips=1," + ratios, kSchedule).computed,
            (std::vector<int>{4, 0, 4, 0, 4, 0}));
  EXPECT_EQ(follow("mag:threshold=9,retention=0.5,skips=9,ratios=1+0.9", kSchedule).computed,
            (std::vector<int>{4, 4, 4, 0, 0, 0}))
      << "ratios of another number of calls";
  EXPECT_THROW(follow("mag", kSchedule), UsageError);
}

TEST(Mag, MeasuresItsRatios) {
  const Course course = follow("mag:calibrate=on", kSchedule);
  EXPECT_EQ(course.computed, std::vector<int>(6, kBlocks));
  for (size_t call = 0; call < kSchedule.size(); ++call)
    EXPECT_NEAR(course.changes[call], call == 0 ? 1 : kSchedule[call] / kSchedule[call - 1], 1e-6)
        << "the blocks add in proportion to the timestep";
}

TEST(Taylor, ExtrapolatesAStraightLineExactly) {
  const std::vector<double> line{1000, 900, 800, 700, 600, 500};
  const Course plain = follow("none", line), course = follow("taylor:first=2,interval=3", line);
  EXPECT_EQ(course.computed, (std::vector<int>{4, 4, 0, 4, 0, 0}));
  for (size_t call = 0; call < line.size(); ++call)
    EXPECT_NEAR(course.outputs[call], plain.outputs[call], 1e-9) << call;
  const Course sites = follow("taylor:first=2,interval=3,sites=full", line);
  for (size_t call = 0; call < line.size(); ++call) EXPECT_NEAR(sites.outputs[call], plain.outputs[call], 1e-9) << call;
  EXPECT_NEAR(follow("taylor:first=2,interval=3,order=0", line).outputs[2], plain.outputs[1], 1e-9) << "repeats";
}

TEST(Caches, ThatMeasureRefuseASamplerThatDrawsNoise) {
  const Context stochastic{.model = "STDiT3", .sites = {{Kind::temporal, 28}}, .is_stochastic = true};
  for (const char* text : {"first-block", "dual-block", "tea", "easy", "ada"})
    EXPECT_THROW(make_method(text, stochastic), UsageError);
  EXPECT_NE(make_method("pab", stochastic), nullptr);
}

}  // namespace
}  // namespace kinora::cache
