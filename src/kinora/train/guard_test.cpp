#include "kinora/train/guard.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kinora/base/test_folder.h"

namespace kinora::train {
namespace {

using Verdict = LossGuard::Verdict;

/// Losses of 1 +- .1, n of them.
int64_t feed(LossGuard& guard, int64_t n, int64_t step = 0) {
  for (const int64_t end = step + n; step < end; ++step)
    EXPECT_EQ(guard.see(step, step % 2 == 0 ? 1.1 : 0.9, 1), Verdict::update) << step;
  return step;
}

TEST(LossGuard, SkipsAnOutlierOnceItsWindowIsFull) {
  const auto window = static_cast<int64_t>(LossGuard::kWindow);
  LossGuard young, grown;
  EXPECT_EQ(young.see(feed(young, window - 1), 100, 1), Verdict::update);
  EXPECT_EQ(grown.see(feed(grown, window), 1.59, 1), Verdict::update) << "5.9 deviations";
  EXPECT_EQ(grown.see(window + 1, 2, 1), Verdict::outlier);
  EXPECT_EQ(grown.see(window + 2, 0.001, 1), Verdict::update) << "a low loss is no reason";
  EXPECT_FALSE(grown.in_doubt());
}

TEST(LossGuard, EnduresAnotherLevelOfTheLoss) {
  LossGuard guard;
  int64_t step = feed(guard, 200), skipped = 0;
  for (int i = 0; i < 100; ++i) skipped += guard.see(step++, 1000, 1) == Verdict::outlier ? 1 : 0;
  EXPECT_GT(skipped, 0);
  EXPECT_LE(skipped, 4);
}

TEST(LossGuard, EqualLossesHaveNoOutlier) {
  LossGuard guard;
  for (int64_t step = 0; step < 300; ++step) EXPECT_EQ(guard.see(step, 0.5, 1), Verdict::update);
}

TEST(LossGuard, DoubtsAtThreeInARow) {
  LossGuard guard;
  int64_t step = feed(guard, 5);
  EXPECT_EQ(guard.see(step++, NAN, 1), Verdict::not_finite);
  EXPECT_EQ(guard.see(step++, 1, INFINITY), Verdict::not_finite);
  EXPECT_FALSE(guard.in_doubt());
  step = feed(guard, 1, step);
  guard.see(step++, NAN, 1), guard.see(step++, NAN, 1);
  EXPECT_FALSE(guard.in_doubt());
  EXPECT_TRUE(guard.last_was_bad());
  guard.see(step++, NAN, 1);
  EXPECT_TRUE(guard.in_doubt());
  feed(guard, 1, step);
  EXPECT_FALSE(guard.in_doubt());
}

TEST(LossGuard, DoubtsAtTenInAThousand) {
  const auto feed_bad = [](int64_t apart) {
    LossGuard guard;
    for (int64_t step = 0; step < 10 * apart; ++step) {
      guard.see(step, step % apart == 0 ? NAN : 1.0, 1);
      if (guard.in_doubt()) return true;
    }
    return false;
  };
  EXPECT_TRUE(feed_bad(100));
  EXPECT_FALSE(feed_bad(112));  // the first is 1008 steps ago when the tenth comes
}

TEST(LossGuard, GoesOnFromItsStateAsIfNothingHadHappened) {
  const TempFolder temp;
  LossGuard whole, resumed;
  int64_t step = feed(whole, 150);
  whole.see(step++, NAN, 1), whole.see(step++, NAN, 1);
  save_tensors(temp / "guard.safetensors", whole.state());
  resumed.load_state(Checkpoint(temp / "guard.safetensors"));
  LossGuard copy = resumed;
  EXPECT_EQ(resumed.see(step, 2, 1), Verdict::outlier);
  copy.see(step, NAN, 1);
  EXPECT_TRUE(copy.in_doubt());
  save_tensors(temp / "without.safetensors", {{"other", at::ones({1})}});
  resumed.load_state(Checkpoint(temp / "without.safetensors"));
  EXPECT_EQ(resumed.see(step, 2, 1), Verdict::update) << "new: a checkpoint of before there was a guard";
}

}  // namespace
}  // namespace kinora::train
