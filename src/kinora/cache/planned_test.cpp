// The planned cache from its parts: what a recorder sees, the plan that follows, and the run that keeps to it.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kinora/base/error.h"
#include "kinora/cache/extrapolation.h"
#include "kinora/cache/recorder.h"
#include "kinora/cache/registry.h"
#include "kinora/tensor/random.h"

namespace kinora::cache {
namespace {

constexpr int kCalls = 8;
constexpr Branch kBoth[] = {Branch::cond, Branch::uncond};

/// Predicts what does not depend on the latents: cond moves along a curve in the space of four fixed tensors, uncond is
/// half of it.
class Curve final : public Denoiser {
 public:
  explicit Curve(double bend) : bend_(bend) {
    at::Generator generator = cpu_generator(3);
    for (Tensor& t : basis_) t = randn({2, 3, 2, 4, 4}, generator);
  }
  std::vector<Tensor> predict(const Tensor&, const Step& step, std::span<const Branch> wanted) override {
    ++computed_;
    std::vector<Tensor> out;
    const double u = step.call;
    for (const Branch branch : wanted) {
      const Tensor cond = (1 + u) * basis_[0] + bend_ * (u * u * basis_[1] + std::pow(u, 3) / 8 * basis_[2] +
                                                         std::pow(u, 4) / 64 * basis_[3]);
      out.push_back(branch == Branch::cond ? cond : cond / 2);
    }
    return out;
  }
  int computed() const { return computed_; }

 private:
  double bend_;
  Tensor basis_[4];
  int computed_ = 0;
};

std::vector<double> schedule() {
  std::vector<double> out;
  for (int i = 0; i < kCalls; ++i) out.push_back(1000.0 - 100 * i);
  return out;
}

std::vector<Tensor> run(Denoiser& model, Method& method) {
  const std::vector<double> times = schedule();
  CachedDenoiser cached(model, method);
  std::vector<Tensor> guided;
  at::Generator generator = cpu_generator(4);
  const Tensor latents = randn({2, 3, 2, 4, 4}, generator);
  for (int call = 0; call < kCalls; ++call) {
    const Step step{.call = call, .calls = kCalls, .timestep = times[static_cast<size_t>(call)], .schedule = times};
    const auto out = cached.predict(latents, step, kBoth);
    guided.push_back(out[1] + 3.0 * (out[0] - out[1]));
  }
  return guided;
}

CalibratedRun recorded(double bend) {
  Curve model(bend);
  Recorder recorder;
  run(model, recorder);
  EXPECT_EQ(recorder.denoisings(), 2) << "a batch of two";
  EXPECT_GT(recorder.kept_bytes(), 0u) << "the first latents stay until the next run";
  return {.steps = kCalls, .clips = 2, .schedule = schedule(), .gram = recorder.gram()};
}

const std::vector<double> kInfluence(kCalls, 1.0 / kCalls);

int computed(const std::vector<PlannedCall>& plan) {
  return static_cast<int>(std::count_if(plan.begin(), plan.end(), [](const PlannedCall& c) { return c.is_computed; }));
}

TEST(Recorder, MeasuresInnerProducts) {
  const Gram gram = recorded(0).gram;
  EXPECT_EQ(gram.calls, kCalls);
  const double first = gram.at(0, 0);
  EXPECT_GT(first, 0.5);
  EXPECT_NEAR(gram.at(2, 2) / first, 9, 1e-5) << "cond grows as 1 + call";
  EXPECT_NEAR(gram.at(0, kCalls) / first, 0.5, 1e-5) << "uncond is half of it";
  EXPECT_NEAR(gram.at(kCalls + 1, 3), gram.at(3, kCalls + 1), 1e-9);
}

TEST(PlanCalls, ComputesAsManyAsAskedForAndTheFirst) {
  const Gram gram = recorded(0.3).gram;
  double before = 1e9;
  for (int64_t n = 1; n <= kCalls; ++n) {
    const auto plan = plan_calls(gram, 3, kInfluence, n);
    EXPECT_EQ(computed(plan), n);
    EXPECT_TRUE(plan[0].is_computed);
    const double error = expected_error(gram, 3, kInfluence, plan);
    EXPECT_LE(error, before * 1.02) << n << " computed calls are no worse than one fewer";
    before = error;
  }
  EXPECT_EQ(before, 0) << "everything is computed";
  EXPECT_THROW(plan_calls(gram, 3, kInfluence, 0), UsageError);
  EXPECT_THROW(plan_calls(gram, 3, kInfluence, kCalls + 1), UsageError);
  EXPECT_THROW(plan_calls(gram, 3, std::vector<double>(3, 1.0), 2), UsageError);
}

TEST(PlanCalls, ComputesWhatCounts) {
  const Gram gram = recorded(0.3).gram;
  std::vector<double> influence = kInfluence;
  influence[5] = 1;  // there it counts
  EXPECT_TRUE(plan_calls(gram, 3, influence, 4)[5].is_computed);
}

TEST(Planned, MakesUpAStraightLineExactly) {
  Calibration calibration{.model = "Curve", .weights = 0};
  calibration.put(recorded(0));
  const Context context{.model = "Curve",
                        .schedule = schedule(),
                        .steps = kCalls,
                        .guidance_scale = 3,
                        .influence = kInfluence,
                        .calibration = &calibration};
  const auto method = make_method("planned:calls=3", context);
  Curve model(0), plain(0);
  Recorder recorder;
  const auto truth = run(plain, recorder), made = run(model, *method);
  EXPECT_EQ(model.computed(), 3);
  EXPECT_EQ(method->hits().at("call").reused, kCalls - 3);
  for (size_t i = 0; i < truth.size(); ++i)
    EXPECT_LT((made[i] - truth[i]).abs().max().item<double>(), 2e-3 * truth[i].abs().max().item<double>()) << i;
  EXPECT_LE(method->kept_bytes(), 5 * truth[0].nbytes()) << "two calls, two branches, and the first latents";
}

TEST(Planned, RefusesWhatItWasNotMeasuredFor) {
  Calibration calibration{.model = "Curve", .weights = 0};
  calibration.put(recorded(0));
  Context context{.model = "Curve",
                  .schedule = schedule(),
                  .steps = kCalls,
                  .guidance_scale = 3,
                  .influence = kInfluence,
                  .calibration = &calibration};
  EXPECT_THROW(make_method("planned:calls=9", context), UsageError);
  context.schedule[2] -= 30;
  EXPECT_THROW(make_method("planned", context), UsageError) << "other timesteps";
  context.schedule = schedule(), context.steps = kCalls + 1;
  EXPECT_THROW(make_method("planned", context), UsageError) << "other steps";
  context.steps = kCalls, context.rows = 8;
  EXPECT_THROW(make_method("planned", context), UsageError) << "another size of clip";
  context.rows = 0, context.guidance_scale = 1;
  EXPECT_THROW(make_method("planned", context), UsageError) << "no guidance";
  context.guidance_scale = 3, context.calibration = nullptr;
  EXPECT_THROW(make_method("planned", context), UsageError) << "no calibration";
  context.calibration = &calibration, context.is_stochastic = true;
  EXPECT_THROW(make_method("planned", context), UsageError) << "a sampler that draws noise";
}

}  // namespace
}  // namespace kinora::cache
