#include "kinora/cache/pab.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/cache/registry.h"

namespace kinora::cache {
namespace {

// Open-Sora 1.2 at 480x854 and 51 frames, 30 steps in bfloat16 (int of the shifted times).
const std::vector<double> kOpenSora{1000, 992, 984, 976, 968, 960, 952, 940, 932, 920, 908, 892, 880, 864, 848,
                                    828,  808, 788, 764, 736, 708, 676, 636, 596, 548, 492, 426, 350, 258, 143};

/// A model of two blocks of each kind; each site counts its visits and gives the number of the call.
struct Toy {
  explicit Toy(Policy& policy) { run.policy = &policy; }
  void step(int call, std::span<const double> schedule, std::vector<Branch> rows = {Branch::cond, Branch::uncond}) {
    run.step = {
        .call = call, .calls = static_cast<int>(schedule.size()), .timestep = schedule[call], .schedule = schedule};
    run.rows = rows;
    for (const char* list : {"spatial_blocks", "temporal_blocks"}) {
      const Kind kind = list[0] == 's' ? Kind::spatial : Kind::temporal;
      for (int block = 0; block < 6; ++block) {
        for (const auto& [name, k] : {std::pair{"attn", kind}, {"cross_attn", Kind::cross}, {"mlp", Kind::mlp}}) {
          const std::string path = concat(list, ".", block, ".", name);
          const SiteKey outer{path, block, k, Point::residual}, inner{path, block, k, Point::module};
          bool computed = false;
          const Tensor got = site_tensor(run, outer, [&] {
            return site_tensor(run, inner, [&]() -> Tensor {
              computed = true;
              return at::full({static_cast<int64_t>(rows.size())}, call, at::kFloat);
            });
          });
          if (on_visit) on_visit();
          letters[path] += computed ? 'C' : 'R';
          given[path].push_back(got[0].item<int>());
        }
      }
    }
  }
  Run run;
  std::function<void()> on_visit;  // behind each site
  std::map<std::string, std::string> letters;
  std::map<std::string, std::vector<int>> given;  // the call whose value each call got
};

/// As Toy visits them.
std::vector<Site> toy_sites() {
  std::vector<Site> sites;
  for (const std::string list : {"spatial_blocks.", "temporal_blocks."}) {
    for (int block = 0; block < 6; ++block) {
      sites.push_back({concat(list, block, ".attn"), list[0] == 's' ? Kind::spatial : Kind::temporal});
      sites.push_back({concat(list, block, ".cross_attn"), Kind::cross});
      sites.push_back({concat(list, block, ".mlp"), Kind::mlp});
    }
  }
  return sites;
}

const Context kContext{.model = "STDiT3", .schedule = kOpenSora, .steps = 30, .order = toy_sites()};

TEST(Pab, DecidesAsTheGoldenStringsSay) {
  const auto method = make_method("pab", kContext);
  Toy toy(*method);
  uint64_t most_bytes = 0;
  toy.on_visit = [&] { most_bytes = std::max(most_bytes, method->kept_bytes()); };
  for (int call = 0; call < 30; ++call) toy.step(call, kOpenSora);
  EXPECT_EQ(toy.letters["spatial_blocks.3.attn"], "CCCCCCCCCRCRCRCRCRCRCRCRCRCCCC");
  EXPECT_EQ(toy.letters["temporal_blocks.0.attn"], "CCCCCCCCCRRRCRRRCRRRCRRRCRCCCC");
  EXPECT_EQ(toy.letters["spatial_blocks.5.cross_attn"], "CCCCCCCCCRRRCRRRRRCRRRRRCRCCCC");
  EXPECT_EQ(toy.letters["spatial_blocks.4.mlp"], "CCCCCCCCCCCCCCRRCCRRCCRRCCCCCC");
  EXPECT_EQ(toy.letters["temporal_blocks.5.mlp"], std::string(30, 'C'));
  const auto& given = toy.given["temporal_blocks.1.attn"];
  EXPECT_EQ(given[11], 8) << "repeats the last computed value";
  EXPECT_EQ(given[13], 12);

  EXPECT_EQ(method->hits().at("spatial").computed, 21 * 6);
  EXPECT_EQ(method->hits().at("temporal").reused, 13 * 6);
  EXPECT_EQ(method->hits().at("cross").computed, 16 * 12);
  EXPECT_EQ(method->hits().at("mlp").reused, 6 * 10);
  constexpr uint64_t kValueBytes = 2 * sizeof(float);  // a number for each branch
  EXPECT_EQ(most_bytes, kValueBytes * static_cast<uint64_t>(method->most_kept_values())) << "what the estimate counts";
  EXPECT_EQ(method->kept_bytes(), 0u) << "what no later call repeats is freed";
}

TEST(Pab, RangeOneAndAnEmptyWindowComputeEverything) {
  for (const char* text : {"pab:spatial=1,temporal=1,cross=1,mlp=off", "pab:window=500..500,mlp=off"}) {
    const auto method = make_method(text, {.model = "STDiT3", .schedule = kOpenSora, .steps = 30});
    Toy toy(*method);
    for (int call = 0; call < 30; ++call) toy.step(call, kOpenSora);
    for (const auto& [path, letters] : toy.letters) EXPECT_EQ(letters, std::string(30, 'C')) << text << " " << path;
    EXPECT_EQ(method->kept_bytes(), 0u);
  }
}

TEST(Pab, BranchesInCallsOfTheirOwnDecideAlikeAndStayApart) {
  const auto method =
      make_method("pab:window=0..1000", {.model = "STDiT3", .schedule = {900, 800, 700, 600}, .steps = 4});
  const std::vector<double> schedule{900, 800, 700, 600};
  Toy toy(*method);
  for (int call = 0; call < 4; ++call) {
    toy.step(call, schedule, {Branch::cond});
    toy.step(call, schedule, {Branch::uncond});
  }
  EXPECT_EQ(toy.letters["spatial_blocks.0.attn"], "CCRRCCRR");
  EXPECT_EQ(toy.letters["temporal_blocks.0.attn"], "CCRRRRRR");
}

TEST(Pab, ABranchThatWasNeverSeenIsComputed) {
  const std::vector<double> schedule{900, 800, 700, 600};
  const auto method = make_method("pab:window=0..1000", {.model = "STDiT3", .schedule = schedule, .steps = 4});
  Toy toy(*method);
  toy.step(0, schedule, {Branch::cond});
  toy.step(1, schedule, {Branch::cond, Branch::uncond});
  EXPECT_EQ(toy.letters["spatial_blocks.0.attn"], "CC");
}

TEST(Pab, MlpWindowsMoveToTheNearestCallOfAnotherSchedule) {
  std::vector<PabMlpWindow> windows{{864, {0}, 2}, {788, {0}, 2}, {780, {0}, 2}};
  fit_mlp_windows(windows, std::vector<double>{1000, 900, 860.5, 790, 700});
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[0].timestep, 860);
  EXPECT_EQ(windows[1].timestep, 790);
}

TEST(Pab, CountsAnewAfterTheStepsWhereCallsAreMore) {
  const std::vector<double> schedule{900, 850, 800, 700, 600, 500};
  const auto method = make_method("pab:window=0..1000,mlp=off", {.model = "STDiT3", .schedule = schedule, .steps = 5});
  Toy toy(*method);
  for (int call = 0; call < 6; ++call) toy.step(call, schedule);
  EXPECT_EQ(toy.letters["temporal_blocks.0.attn"], "CRRRCC");
}

}  // namespace
}  // namespace kinora::cache
