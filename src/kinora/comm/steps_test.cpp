#include "kinora/comm/steps.h"

#include <gtest/gtest.h>

#include "kinora/base/log.h"
#include "kinora/comm/threads.h"

namespace kinora::comm {
namespace {

/// The first step (from 1) at which a straggler was told, or 0.
int64_t told_at(const std::vector<double>& work_s, int64_t steps) {
  Stragglers stragglers;
  for (int64_t i = 1; i <= steps; ++i) {
    if (stragglers.add(work_s)) return i;
  }
  return 0;
}

TEST(Stragglers, ARankOfMoreThanTwiceTheMedianIsToldAfterTwentySteps) {
  EXPECT_EQ(told_at({0.1, 0.1, 0.31, 0.1}, 100), 20);
  EXPECT_EQ(told_at({0.1, 0.1, 0.19, 0.1}, 100), 0);
  EXPECT_EQ(told_at({0.1, 0.3}, 100), 20) << "of two, the quicker is the measure";
  EXPECT_EQ(told_at({0.001, 0.004, 0.001}, 100), 0) << "milliseconds";
  EXPECT_EQ(told_at({1.0}, 100), 0);
}

TEST(Stragglers, OneSlowStepIsNoStraggler) {
  Stragglers stragglers;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(stragglers.add(std::vector<double>{0.1, i == 50 ? 1.0 : 0.1, 0.1}));
}

TEST(Stragglers, TheSameRankIsToldAgainAfterAWhile) {
  Stragglers stragglers;
  int times = 0;
  for (int i = 0; i < 450; ++i) times += stragglers.add(std::vector<double>{0.1, 0.5}) ? 1 : 0;
  EXPECT_EQ(times, 3);
  EXPECT_EQ(describe({.rank = 1, .step_s = 0.5, .median_s = 0.099}),
            "rank 1 works 0.50 s a step, the median is 0.10 s: everybody waits for it");
}

TEST(Steps, AllStopInTheStepInWhichOneWantsTo) {
  run_ranks(3, [](Communicator& g) {
    Steps steps(g);
    int done = 0;
    while (!steps.agree_to_stop(g.rank() == 1 && done == 4, 0.01)) ++done;
    EXPECT_EQ(done, 4);
  });
}

TEST(Steps, RankZeroWarnsOfAStraggler) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  run_ranks(3, [](Communicator& g) {
    Steps steps(g);
    for (int i = 0; i < 30; ++i) steps.agree_to_stop(false, g.rank() == 2 ? 0.3 : 0.01);
  });
  set_log_sink({});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("rank 2 works 0.30 s a step"), std::string::npos) << lines[0];
}

}  // namespace
}  // namespace kinora::comm
