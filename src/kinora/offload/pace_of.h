// How long passes take on real lanes, for tests: the best of several, for another program may hold the core.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

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

/// Measured and bound for the page: --gtest_output=json writes them down.
inline void record(const std::string& what, double seconds, double bound) {
  const auto ms = [](double s) { return concat(std::round(s * 1e4) / 10); };
  testing::Test::RecordProperty(what, concat(ms(seconds), " ms of ", ms(bound), " ms"));
}

}  // namespace kinora::offload::test
