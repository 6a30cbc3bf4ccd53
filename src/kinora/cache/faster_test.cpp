// FasterCache's two halves by hand: attention on the model of all caches, guidance on predictions of known frequencies.
#include <gtest/gtest.h>

#include "kinora/cache/toy_model.h"

namespace kinora::cache {
namespace {

using test::Course, test::follow, test::kCond;

const std::vector<double> kLine{1000, 900, 800, 700, 600, 500};

TEST(Faster, ExtrapolatesAttentionFromItsLastTwoOutputs) {
  const Course course = follow("faster:full=2,weight=0.5,uncond=off,window=-1..1001", kLine);
  // Ten times 1, 1 (only one to go by), .8, .8 + (.8 - 1) / 2, .6, .6 + (.6 - .7) / 2, and the latents.
  const std::vector<double> expected{11, 11, 9, 8, 7, 6.5};
  for (size_t call = 0; call < expected.size(); ++call) EXPECT_NEAR(course.outputs[call], expected[call], 1e-9) << call;
  EXPECT_EQ(course.most_values, 8) << "two outputs of four sites";
  EXPECT_EQ(course.most_bytes, test::kValueBytes * 8);
  const Course seldom = follow("faster:full=3,uncond=off,window=-1..650", kLine);
  EXPECT_NEAR(seldom.outputs[2], 9, 1e-9) << "outside of the window";
  EXPECT_NEAR(seldom.outputs[4], 1 + 10 * (0.7 + (0.7 - 0.8) / 2), 1e-9);
}

TEST(Faster, ExtrapolatesOnlyWhereCondRunsAlone) {
  const Course course = follow("faster:full=2,weight=1,uncond=3,window=-1..1001,uncond_window=-1..1001", kLine);
  // Both branches run at calls 0 and 3, so that of the odd calls only 1 and 5 are extrapolated.
  const std::vector<double> expected{11, 11, 9, 8, 7, 6};
  for (size_t call = 0; call < expected.size(); ++call) EXPECT_NEAR(course.outputs[call], expected[call], 1e-9) << call;
  const Course guided = follow("faster:full=2,uncond=2,window=-1..1001,uncond_window=-1..1001", kLine);
  EXPECT_NEAR(guided.outputs[1], 11, 1e-9);
  EXPECT_EQ(guided.most_values, 4) << "two outputs of four sites, of one branch";
  constexpr uint64_t kDifference = 12 * 2 * sizeof(double);  // complex, of one clip
  EXPECT_EQ(guided.most_bytes, test::kValueBytes * 4 + kDifference);
  EXPECT_EQ(follow("faster:full=2,uncond=off,window=-1..1001", kLine, {.wanted = kCond}).outputs,
            follow("faster:full=2,uncond=off,window=-1..1001", kLine).outputs);
}

/// cond is 0 everywhere, uncond is 3 plus a wave of the highest frequency.
class Waves final : public Denoiser {
 public:
  std::vector<Tensor> predict(const Tensor& latents, const Step&, std::span<const Branch> wanted) override {
    ++calls;
    rows += wanted.size();
    std::vector<Tensor> out;
    for (const Branch branch : wanted)
      out.push_back(branch == Branch::cond ? at::zeros_like(latents) : 3 + wave(latents));
    return out;
  }
  static Tensor wave(const Tensor& latents) {
    return at::ones_like(latents) * (1 - 2 * at::arange(latents.size(-1), at::kDouble).remainder(2));
  }
  size_t calls = 0, rows = 0;
};

TEST(Faster, MakesUncondOfCondAndWeighsBothBands) {
  const std::vector<double> schedule{900, 600, 500, 250, 200, 90};
  const auto method =
      make_method("faster:uncond=5,low=1.5,high=2,low_window=99..901,high_window=-1..301",
                  {.model = "STDiT3", .sites = {{Kind::spatial, 28}}, .schedule = schedule, .steps = 6});
  Waves model;
  const Tensor latents = at::zeros({1, 2, 3, 10, 12}, at::kDouble), wave = Waves::wave(latents);
  const std::vector<std::pair<double, double>> expected{{1, 1}, {1.5, 1}, {2.25, 1}, {3.375, 2}, {5.0625, 4}, {1, 1}};
  for (int call = 0; call < 6; ++call) {
    const Step step{.call = call, .calls = 6, .timestep = schedule[call], .schedule = schedule};
    const auto out = method->predict(model, latents, step, test::kBoth);
    const auto [low, high] = expected[call];
    EXPECT_TRUE(out[0].equal(latents)) << "cond is the model's";
    EXPECT_TRUE(out[1].allclose(3 * low + high * wave)) << call;
  }
  EXPECT_EQ(model.rows, 2u * 2 + 4) << "both branches at calls 0 and 5 alone";
  EXPECT_EQ(method->hits().at("uncond").reused, 4);
}

TEST(Faster, RefusesWhatItCannotTake) {
  const Context guided{.model = "STDiT3", .sites = {{Kind::spatial, 28}, {Kind::temporal, 28}}};
  Context alone = guided;
  alone.guidance_scale = 1;
  EXPECT_THROW(make_method("faster", alone), UsageError) << "no guidance, nothing to leave out";
  EXPECT_NE(make_method("faster:uncond=off", alone), nullptr);
  EXPECT_NE(make_method("faster:temporal=2", guided), nullptr);
  for (const char* wrong :
       {"faster:full=2", "faster:spatial=0", "faster:uncond=0", "faster:window=5", "faster:weight=-1",
        "faster:low_window=900..100", "faster:high_window=-2..5", "faster:temprl=2"})
    EXPECT_THROW(make_method(wrong, guided), UsageError) << wrong;
}

}  // namespace
}  // namespace kinora::cache
