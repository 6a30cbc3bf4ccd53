#include "kinora/cache/calibration.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/cache/choice.h"
#include "kinora/cache/registry.h"

namespace kinora::cache {
namespace {

CalibratedRun run_with(int64_t steps) {
  CalibratedRun run{.steps = steps, .clips = 4, .gram = {.calls = steps}};
  for (int64_t i = 0; i < steps; ++i) run.schedule.push_back(1000.0 * static_cast<double>(steps - i) / steps);
  const int64_t n = run.gram.size();
  for (int64_t a = 0; a < n; ++a) {
    for (int64_t b = 0; b < n; ++b) run.gram.products.push_back(a == b ? 1.0 : 0.25);
  }
  run.ratios.assign(static_cast<size_t>(steps), 0.875);
  run.coefficients = {2, 1, 0.5};
  run.measured = {{"pab", 1.25, 40, 0.99}, {"planned:calls=1", 2.5, 30.5, 0.97}, {"easy", 3, 25, 0.9}};
  return run;
}

Calibration two_runs() {
  Calibration calibration{.model = "STDiT3", .weights = 7};
  calibration.put(run_with(4));
  calibration.put(run_with(2));
  return calibration;
}

TEST(Calibration, ComesBackFromJson) {
  const Calibration was = two_runs();
  const Calibration is = Calibration::from_json(was.to_json(), "calibration.json");
  EXPECT_EQ(is.to_json(), was.to_json());
  ASSERT_EQ(is.runs.size(), 2u);
  EXPECT_EQ(is.runs[0].steps, 2) << "in the order of steps";
  EXPECT_EQ(is.find(4)->gram.products, run_with(4).gram.products);
  EXPECT_EQ(is.find(3), nullptr);
  EXPECT_EQ(is.nearest(100)->steps, 4);
}

TEST(Calibration, RefusesWhatDoesNotFitTogether) {
  const Json good = two_runs().to_json();
  const auto with = [&](const char* path, Json value) {
    Json json = good;
    json[Json::json_pointer(path)] = std::move(value);
    return json;
  };
  for (const Json& wrong : {with("/format", 2), with("/runs/0/gram", {1.0, 2.0}), with("/runs/0/schedule", {1.0}),
                            with("/runs/0/steps", 0), with("/weights", -1), with("/runs/0/rows", -1),
                            with("/runs/0/more", 1), with("/runs/0/measured/0/speed", "fast"), with("/runs", 1)})
    EXPECT_THROW(Calibration::from_json(wrong, "calibration.json"), DataError) << wrong.dump().substr(0, 80);
}

TEST(Auto, TakesTheFastestThatIsGoodEnoughAndTheBestThatIsFastEnough) {
  const Calibration calibration = two_runs();
  const Context context{.model = "STDiT3", .schedule = {1000, 750, 500, 250}, .steps = 4, .calibration = &calibration};
  EXPECT_EQ(choose("auto", context).cache, "planned:calls=1");
  EXPECT_EQ(choose("auto:quality=31", context).cache, "pab");
  EXPECT_EQ(choose("auto:quality=20", context).cache, "easy");
  EXPECT_EQ(choose("auto:speed=2", context).cache, "planned:calls=1");
  EXPECT_EQ(choose("auto:speed=1.1", context).cache, "pab");
  for (const char* wrong : {"auto:quality=50", "auto:speed=4", "auto:quality=30,speed=2", "auto:spede=2"})
    EXPECT_THROW(choose(wrong, context), UsageError) << wrong;
  EXPECT_THROW(choose("auto", {.model = "STDiT3", .steps = 3, .calibration = &calibration}), UsageError);
  EXPECT_TRUE(is_auto("auto") && is_auto("auto:speed=2"));
  EXPECT_FALSE(is_auto("autumn") || is_auto("none"));
}

TEST(Caches, TakeTheirNumbersFromTheCalibration) {
  const Calibration calibration = two_runs();
  EXPECT_THROW(make_method("mag", {.model = "New", .steps = 4}), UsageError);
  EXPECT_THROW(make_method("tea", {.model = "New", .steps = 4}), UsageError);
  const Context context{.model = "New", .steps = 4, .calibration = &calibration};
  EXPECT_NE(make_method("mag", context), nullptr);
  EXPECT_NE(make_method("tea", context), nullptr);
}

}  // namespace
}  // namespace kinora::cache
