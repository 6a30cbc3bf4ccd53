#include "kinora/video/spread.h"

#include <algorithm>
#include <map>

#include "kinora/base/error.h"
#include "kinora/parallel/plan.h"

namespace kinora::video {
namespace {

// What a choice needs to weigh bytes against work; the order of layouts hardly depends on them.
constexpr double kFlopsPerSecond = 1e11;  // of a rank
constexpr parallel::Link kOneHost{.bytes_per_second = 2e9, .latency_seconds = 5e-5};
constexpr parallel::Link kManyHosts{.bytes_per_second = 1e9, .latency_seconds = 1e-4};

}  // namespace

parallel::ModelFacts facts_of(const models::STDiT3Config& config) {
  return {.name = "STDiT3",
          .width = config.hidden_size,
          .heads = config.num_heads,
          .along_frames = config.depth,
          .along_rows = config.depth,
          .outputs = config.patch_size[0] * config.patch_size[1] * config.patch_size[2] * config.out_channels()};
}

parallel::Computed computed_share(const cache::Method& cache, std::span<const cache::Site> sites) {
  const std::vector<cache::SiteUse> uses = cache.uses();
  std::map<Kind, double> visits, reuses;
  for (size_t i = 0; i < uses.size(); ++i) {
    visits[sites[i].kind] += static_cast<double>(uses[i].taken.size());
    reuses[sites[i].kind] += static_cast<double>(uses[i].reuses());
  }
  const auto of = [&](Kind kind) { return visits[kind] > 0 ? 1 - reuses[kind] / visits[kind] : 1.0; };
  return {.along_frames = of(Kind::temporal), .along_rows = of(Kind::spatial)};
}

Spread choose_spread(const SpreadRequest& r, const models::STDiT3Config& model) {
  if (r.ranks == 1) return {.extent = r.call.extent};
  parallel::Request request{.facts = facts_of(model),
                            .call = r.call,
                            .ranks = r.ranks,
                            .branches = r.is_guided && !r.decides_by_values ? 2 : 1,
                            .link = r.on_one_host ? kOneHost : kManyHosts,
                            .seconds_of_one = r.call_flops / kFlopsPerSecond,
                            .computed = r.computed};
  request.call.batch *= r.is_guided ? 2 : 1;
  if (r.name.starts_with("guidance") && request.branches == 1) {
    throw UsageError(concat("\"", r.name, "\" needs both branches of guidance apart, and ",
                            r.is_guided ? "this cache decides by the values of both" : "there is no guidance"),
                     "--parallel auto takes what fits");
  }
  const parallel::Choice choice = parallel::choose_layout(request, r.name);
  return {choice.best.arrangement, r.call.extent, choice.reason, choice.best.bytes, choice.best.exchanges};
}

}  // namespace kinora::video
