// AdaCache's rule by hand: the watched attention is 2 t / 1000, so that it changes as the timestep does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kinora/cache/toy_model.h"

namespace kinora::cache {
namespace {

using test::Course, test::follow;

const std::vector<double> kSchedule{1000, 990, 980, 970, 700, 690, 680, 670, 660, 650};
constexpr test::ToyOptions kTemporal{.kind = Kind::temporal};

TEST(Ada, WaitsForLongerWhereAttentionChangesLess) {
  const Course course = follow("ada:changes=0.005+0.02,rates=3+2+1", kSchedule, kTemporal);
  // Changes: 10 / 1000 of the second call, so that the third repeats; 20 / 990 in two calls; 280 / 970 in two; 10 / 690.
  EXPECT_EQ(course.computed, (std::vector<int>{4, 4, 0, 4, 0, 4, 4, 0, 4, 4})) << "both last calls are computed";
  EXPECT_NEAR(course.outputs[2], 1 + 10 * 0.99, 1e-9);
  EXPECT_NEAR(course.outputs[4], 1 + 10 * 0.97, 1e-9);
  EXPECT_NEAR(course.changes[1], 0.01, 1e-9);
  EXPECT_NEAR(course.changes[3], 20.0 / 990 / 2, 1e-9) << "over the rate of the computation before";
  EXPECT_NEAR(course.changes[5], 280.0 / 970 / 2, 1e-9);
  EXPECT_EQ(course.most_bytes, test::kValueBytes * static_cast<uint64_t>(course.most_values));
}

TEST(Ada, TakesItsTableByTheNumberOfSteps) {
  const std::vector<double> still(12, 500.0), long_run(100, 500.0);
  EXPECT_EQ(follow("ada", still, kTemporal).computed, (std::vector<int>{4, 4, 0, 0, 0, 0, 0, 4, 0, 0, 4, 4}));
  EXPECT_EQ(follow("ada:block=2", still, kTemporal).computed, follow("ada", still, kTemporal).computed)
      << "numbered in its own list, not in the stack";
  EXPECT_EQ(follow("ada:speed=slow", still, kTemporal).computed,
            (std::vector<int>{4, 4, 0, 0, 4, 0, 0, 4, 0, 0, 4, 4}));
  const Course course = follow("ada", long_run, kTemporal);
  EXPECT_EQ(course.computed[13], 4);
  EXPECT_EQ(std::count(course.computed.begin(), course.computed.begin() + 13, 4), 2)
      << "twelve calls from the second on";
}

TEST(Ada, WeighsTheChangeByMotion) {
  const std::string text = "ada:moreg=on,changes=0.001+0.05,rates=3+2+1";
  const Course course = follow(text, kSchedule, {.kind = Kind::temporal, .per_frame = 1});
  // Two frames of v and 2 v differ by a third of their sum.
  const double motion = std::pow(1.0 / 3 / 0.385, 8);
  EXPECT_NEAR(course.changes[1], 0.01 * (motion + 10 * (1 - motion)), 1e-9);
  EXPECT_NEAR(course.changes[2], 10.0 / 990 * motion, 1e-9) << "the motion is that of the call before";
  EXPECT_EQ(course.computed[3], 0);
  EXPECT_NEAR(follow(text, kSchedule, kTemporal).changes[1], 0.01 * 10, 1e-9) << "no motion, which is a change of one";
}

TEST(Ada, RefusesWhatItCannotTake) {
  const Context context{.model = "STDiT3", .sites = {{Kind::temporal, 28}}, .steps = 30};
  EXPECT_NE(make_method("ada", context), nullptr);
  EXPECT_THROW(make_method("ada", {.model = "CogVideoXTransformer3DModel", .sites = {{Kind::full, 30}}}), UsageError);
  for (const char* wrong : {"ada:speed=odd", "ada:block=28", "ada:changes=0.2+0.1,rates=3+2+1", "ada:rates=3+2",
                            "ada:changes=0+0.1,rates=3+2+1", "ada:rates=0+1+1+1+1+1"})
    EXPECT_THROW(make_method(wrong, context), UsageError) << wrong;
}

}  // namespace
}  // namespace kinora::cache
