// For tests of what is kept: a denoising with a model of four blocks, whose sites give numbers that depend on what came before.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/cache/method.h"
#include "kinora/tensor/test_values.h"

namespace kinora::cache {

inline constexpr int64_t kRows = 2 * 6, kWidth = 16;
inline const std::vector<double> kSchedule{950, 900, 850, 800, 750, 700, 650, 600, 550, 500};

inline std::vector<Site> sites() {
  std::vector<Site> all;
  for (int block = 0; block < 4; ++block) {
    for (const char* list : {"spatial_blocks.", "temporal_blocks."}) {
      const std::string path = concat(list, block);
      const Kind kind = list[0] == 's' ? Kind::spatial : Kind::temporal;
      all.push_back({path + ".attn", kind, kind == Kind::spatial ? 5.0 : 3.0});
      all.push_back({path + ".cross_attn", Kind::cross, 1.0});
      all.push_back({path + ".mlp", Kind::mlp, 4.0});
    }
  }
  return all;
}

inline Context context(uint64_t budget = 0) {
  return {.model = "STDiT3",
          .sites = {{Kind::spatial, 4}, {Kind::temporal, 4}, {Kind::cross, 8}, {Kind::mlp, 8}},
          .schedule = kSchedule,
          .steps = static_cast<int64_t>(kSchedule.size()),
          .order = sites(),
          .rows = kRows,
          .width = kWidth,
          .element_bytes = 4,
          .budget = budget};
}

struct Course {
  std::vector<Tensor> outputs;
  uint64_t most_bytes = 0;
};

inline Course follow(Method& method, Policy* policy = nullptr) {
  kinora::Run run;
  run.policy = policy ? policy : &method;
  const std::vector<Branch> both{Branch::cond, Branch::uncond};
  run.rows = both;
  Course course;
  Tensor x = normal({2, 6, 1, kWidth}, 1).to(at::kFloat);
  for (size_t call = 0; call < kSchedule.size(); ++call) {
    run.step = {.call = static_cast<int>(call),
                .calls = static_cast<int>(kSchedule.size()),
                .timestep = kSchedule[call],
                .schedule = kSchedule};
    int seed = 0;
    for (const Site& s : sites()) {
      ++seed;
      const SiteKey key{s.path, 0, s.kind, Point::residual};
      x = x +
          site_tensor(run, key, [&]() -> Tensor { return at::sin(x * (1.0 + 0.1 * seed)) * (kSchedule[call] / 1000); });
      course.most_bytes = std::max(course.most_bytes, method.kept_bytes());
    }
    course.outputs.push_back(x);
  }
  return course;
}

}  // namespace kinora::cache
