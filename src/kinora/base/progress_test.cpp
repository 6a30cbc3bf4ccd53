#include "kinora/base/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace kinora {
namespace {

class ProgressTest : public testing::Test {
 protected:
  ProgressOptions options(bool terminal) {
    return {.label = "denoise", .total = 10, .is_terminal = terminal, .now_s = [this] { return now_; }};
  }
  double now_ = 100.0;
  std::ostringstream out_;
};

TEST_F(ProgressTest, RewritesOneLineOnATerminal) {
  {
    Progress progress(out_, options(true));
    for (int step = 1; step <= 10; ++step) {
      now_ += 2.0;
      progress.update(step);
    }
  }
  const std::string text = out_.str();
  EXPECT_EQ(text.find("\rdenoise 1/10  0.50 step/s  18 s left\x1b[K\r"), 0U) << text;
  EXPECT_NE(text.find("\rdenoise 10/10  0.50 step/s  20 s\x1b[K\n"), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST_F(ProgressTest, WritesALineNowAndThenElsewhere) {
  Progress progress(out_, options(false));
  for (int step = 1; step <= 10; ++step) {
    now_ += 1.0;
    progress.update(step);
  }
  progress.finish();
  progress.finish();
  const std::string text = out_.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;  // first, one after 5 s, last
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_NE(text.find("denoise 10/10  1.00 step/s  10 s\n"), std::string::npos) << text;
}

TEST_F(ProgressTest, ShowsMemoryNoteAndSlowSteps) {
  ProgressOptions with = options(false);
  with.memory_bytes = [] { return uint64_t{1'900'000'000}; };
  with.total = 0;
  Progress progress(out_, with);
  progress.set_note("loss 0.5");
  now_ += 40.0;
  progress.update(1);
  EXPECT_EQ(out_.str(), "denoise 1  40.0 s/step  1.9 GB  loss 0.5\n");
}

TEST_F(ProgressTest, EndsTheLineWhenTheWorkIsCutShort) {
  {
    Progress progress(out_, options(true));
    now_ += 1.0;
    progress.update(3);
  }
  EXPECT_EQ(out_.str().back(), '\n');
  std::ostringstream silent;
  { Progress unused(silent, options(true)); }
  EXPECT_EQ(silent.str(), "");
}

TEST_F(ProgressTest, StepsOfAnEarlierRunAreShownAndCountNeitherInRateNorInTime) {
  ProgressOptions resumed = options(false);
  resumed.begin = 6;
  Progress progress(out_, resumed);
  for (int step = 7; step <= 10; ++step) {
    now_ += 2.0;
    progress.update(step);
  }
  EXPECT_EQ(out_.str(), "denoise 7/10  0.50 step/s  6 s left\ndenoise 10/10  0.50 step/s  8 s\n");
  std::ostringstream silent;
  { Progress unused(silent, resumed); }
  EXPECT_EQ(silent.str(), "");
}

TEST_F(ProgressTest, SaysLongTimesInMinutesAndHours) {
  Progress progress(out_, {.label = "train", .total = 1001, .is_terminal = false, .now_s = [this] { return now_; }});
  now_ += 9.0;
  progress.update(1);
  EXPECT_NE(out_.str().find("2 h 30 min left"), std::string::npos) << out_.str();
}

}  // namespace
}  // namespace kinora
