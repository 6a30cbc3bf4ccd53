// How long passes take on real lanes, for tests: the best of several, for another program may hold the core.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <thread>

#include "kinora/base/error.h"
#include "kinora/offload/lanes.h"

namespace kinora::offload::test {

/// Seconds of one `pass` once the first is over: the best of up to five times `passes`, fewer when one is within `goal`.
inline double pace_of(const std::function<void()>& pass, int passes, double goal) {
  pass();
  double best = 1e9;
  for (int attempt = 0; attempt < 5 && best > goal; ++attempt) {
    const auto began = Pace::Clock::now();
    for (int i = 0; i < passes; ++i) pass();
    best = std::min(best, std::chrono::duration<double>(Pace::Clock::now() - began).count() / passes);
  }
  return best;
}

/// Whether a sleeper wakes within a millisecond, mostly: else nothing can be timed here.
inline bool is_calm() {
  int late = 0;
  for (int i = 0; i < 20; ++i) {
    const auto due = Pace::Clock::now() + std::chrono::milliseconds(3);
    std::this_thread::sleep_until(due);
    late += Pace::Clock::now() > due + std::chrono::milliseconds(1);
  }
  return late <= 2;
}

/// At most `most` times the bound, and not below it but for the lanes' slack. Where other programs hold the cores the
/// test is skipped, never passed. --gtest_output=json writes both down.
inline void expect_near_bound(const std::string& what, double seconds, double bound, double most = 1.05) {
  const auto ms = [](double s) { return concat(std::round(s * 1e4) / 10); };
  testing::Test::RecordProperty(what, concat(ms(seconds), " ms of ", ms(bound), " ms"));
  EXPECT_GE(seconds, 0.95 * bound) << what;
  if (seconds > most * bound && !is_calm()) GTEST_SKIP() << "too busy a machine to time " << what;
  EXPECT_LE(seconds, most * bound) << what;
}

}  // namespace kinora::offload::test
