#include "kinora/offload/alpha.h"

#include <gtest/gtest.h>

#include <vector>

#include "kinora/base/error.h"
#include "kinora/offload/schedule.h"

namespace kinora::offload {
namespace {

TEST(Alpha, ALineIsFoundThroughItsPoints) {
  const std::vector<std::pair<double, double>> points{{1, 5}, {2, 7}, {4, 11}};
  const Line line = fit_line(points);
  EXPECT_NEAR(line.fixed, 3, 1e-12);
  EXPECT_NEAR(line.slope, 2, 1e-12);
  EXPECT_THROW(fit_line(std::span(points).first(1)), UsageError);
}

TEST(Alpha, BothSidesEndTogetherAsTheSplitLawSays) {
  constexpr int64_t kRows = 4096;
  for (const auto& [cpu_rate, link_rate] : {std::pair(30.0, 12.0), {30.0, 25.0}, {60.0, 25.0}, {1.0, 1.0}}) {
    const Alpha alpha = find_alpha(
        kRows, [&, r = cpu_rate](int64_t rows) { return double(rows) / r; },
        [&, r = link_rate](int64_t rows) { return double(rows) / r; });
    const double share = split_share({.bytes = 1, .cpu_rate = cpu_rate, .link_rate = link_rate}, false);
    EXPECT_EQ(alpha.cpu_rows % 64, 0);
    EXPECT_NEAR(double(alpha.cpu_rows), share * kRows, 64);
    EXPECT_NEAR(alpha.seconds, kRows / (cpu_rate + link_rate), 64 / std::min(cpu_rate, link_rate));
  }
}

TEST(Alpha, ASideThatIsOfNoUseGetsNothing) {
  const auto slow = [](int64_t rows) { return 1.0 + double(rows); };
  const auto fast = [](int64_t rows) { return 1e-6 * double(rows); };
  EXPECT_EQ(find_alpha(640, slow, fast).cpu_rows, 0);
  EXPECT_EQ(find_alpha(640, fast, slow).cpu_rows, 640);
  EXPECT_EQ(find_alpha(100, fast, slow).cpu_rows, 100);  // no multiple of the unit
  EXPECT_EQ(find_alpha(3, fast, slow).cpu_rows, 3);
}

TEST(Alpha, TheNeighboursAreTimedAndTheFastestTaken) {
  // A kernel that is slow at 320 rows alone, which no line tells.
  const auto cpu = [](int64_t rows) { return double(rows) + (rows == 320 ? 1000 : 0); };
  const auto device = [](int64_t rows) { return double(rows); };
  const Alpha alpha = find_alpha(640, cpu, device);
  EXPECT_NE(alpha.cpu_rows, 320);
  EXPECT_EQ(alpha.seconds, 384);
}

TEST(Alpha, TheMedianLeavesOutliersAside) {
  int calls = 0;
  const auto noisy = [&](int64_t rows) { return double(rows) * (++calls % 5 == 0 ? 100 : 1); };
  const auto steady = [](int64_t rows) { return double(rows); };
  EXPECT_EQ(find_alpha(640, noisy, steady).cpu_rows, 320);
}

}  // namespace
}  // namespace kinora::offload
