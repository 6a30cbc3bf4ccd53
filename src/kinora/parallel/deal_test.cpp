#include "kinora/parallel/deal.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kinora::parallel {
namespace {

double longest(const std::vector<double>& costs, const std::vector<int>& dealt, int groups) {
  std::vector<double> busy(static_cast<size_t>(groups), 0);
  for (size_t i = 0; i < costs.size(); ++i) busy[static_cast<size_t>(dealt[i])] += costs[i];
  return *std::max_element(busy.begin(), busy.end());
}

double best(const std::vector<double>& costs, int groups) {
  std::vector<int> dealt(costs.size(), 0);
  double least = 1e300;
  for (;;) {
    least = std::min(least, longest(costs, dealt, groups));
    size_t i = 0;
    while (i < dealt.size() && ++dealt[i] == groups) dealt[i++] = 0;
    if (i == dealt.size()) return least;
  }
}

TEST(Deal, StaysWithinGrahamsBoundOfTheBest) {
  for (int seed = 1; seed <= 40; ++seed) {
    std::vector<double> costs;
    for (int i = 0; i < 8; ++i) costs.push_back((seed * (i + 3) * 7919 + i * i * 104729) % 97 + 1);
    for (const int groups : {1, 2, 3})
      EXPECT_LE(longest(costs, deal(costs, groups), groups),
                best(costs, groups) * (4.0 / 3 - 1.0 / (3 * groups)) + 1e-9);
  }
}

TEST(Deal, NoGroupIsIdleWhileAnotherHasTwo) {
  const std::vector<int> dealt = deal(std::vector<double>{5, 5, 5, 5}, 4);
  EXPECT_EQ(std::vector<int>({0, 1, 2, 3}), dealt);
  EXPECT_TRUE(deal({}, 3).empty());
}

TEST(Deal, GroupsDivideTheRanks) {
  EXPECT_EQ(groups_for(1, 8), 1);
  EXPECT_EQ(groups_for(3, 8), 2);
  EXPECT_EQ(groups_for(5, 6), 3);
  EXPECT_EQ(groups_for(100, 8), 8);
}

}  // namespace
}  // namespace kinora::parallel
