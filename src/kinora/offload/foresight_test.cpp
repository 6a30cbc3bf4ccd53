#include "kinora/offload/foresight.h"

#include <gtest/gtest.h>

namespace kinora::offload {
namespace {

std::vector<int> groups_after(const Foresight& foresight, const Position& position, int count) {
  std::vector<int> out;
  for (const Upcoming& u : foresight.after(position, count)) out.push_back(u.group);
  return out;
}

/// -> how many of the asked groups were foreseen.
int foreseen(Foresight& foresight, Position& position, const std::vector<int>& asked) {
  int hits = 0;
  for (const int group : asked) {
    const auto next = groups_after(foresight, position, 1);
    hits += !next.empty() && next[0] == group;
    foresight.move(position, group);
  }
  return hits;
}

TEST(Foresight, BeginsWithTheOrderOfDeclarationRoundAndRound) {
  Foresight foresight(4);
  Position position;
  EXPECT_EQ(groups_after(foresight, position, 2), (std::vector<int>{0, 1}));
  EXPECT_EQ(foreseen(foresight, position, {0, 1, 2, 3, 0, 1}), 6);
  EXPECT_EQ(groups_after(foresight, position, 9), (std::vector<int>{2, 3, 0}));
}

TEST(Foresight, LearnsEveryOrderFromOnePass) {
  for (const std::vector<int>& order : {std::vector<int>{3, 0, 2, 1}, {0, 2}, {0, 1, 2, 3, 2, 1}, {1, 3, 1, 0}}) {
    Foresight foresight(4);
    Position position;
    foreseen(foresight, position, order);
    foreseen(foresight, position, order);
    EXPECT_EQ(foreseen(foresight, position, order), static_cast<int>(order.size())) << order[0];
  }
}

TEST(Foresight, ForgetsAnOrderThatChanged) {
  Foresight foresight(4);
  Position position;
  for (int pass = 0; pass < 2; ++pass) foreseen(foresight, position, {0, 1, 2, 3});
  foreseen(foresight, position, {0, 3});  // blocks left out
  EXPECT_EQ(foreseen(foresight, position, {0, 3, 0, 3}), 4);
}

TEST(Foresight, TellsWhatBelongsToTheNextPass) {
  Foresight foresight(3);
  Position position;
  foresight.move(position, 0);
  foresight.move(position, 1);
  const auto next = foresight.after(position, 2);
  ASSERT_EQ(next.size(), 2u);
  EXPECT_EQ(next[0].group, 2);
  EXPECT_FALSE(next[0].is_next_pass);
  EXPECT_EQ(next[1].group, 0);
  EXPECT_TRUE(next[1].is_next_pass);
}

TEST(Foresight, OneGroupHasNothingAhead) {
  Foresight foresight(1);
  Position position;
  foresight.move(position, 0);
  EXPECT_TRUE(foresight.after(position, 3).empty());
}

}  // namespace
}  // namespace kinora::offload
