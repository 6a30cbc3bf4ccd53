#include "kinora/cache/change.h"

#include "kinora/base/error.h"

namespace kinora::cache {

namespace {

Tensor widened(const Tensor& t) { return t.to(t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat); }

}  // namespace

double relative_change(const Run& run, const Tensor& now, const Tensor& before) {
  const Tensor is = widened(now), was = widened(before);
  const Tensor sums = run.layout->sum(at::stack({(is - was).abs().sum(), was.abs().sum()}));
  return (sums[0] / sums[1]).item<double>();
}

double mean_ratio(const Run& run, const Tensor& now, const Tensor& before) {
  constexpr double kLeast = 1e-8;  // no row is divided by nothing
  const auto length = [&](const Tensor& t) { return widened(t).square().sum(-1).sqrt(); };
  const Tensor ratios = length(now) / (length(before) + kLeast), total = ratios.sum();
  const Tensor sums = run.layout->sum(at::stack({total, at::full_like(total, ratios.numel())}));
  return (sums[0] / sums[1]).item<double>();
}

Streams add(const Streams& streams, const Streams& what) {
  Streams sums;
  for (size_t s = 0; s < streams.size(); ++s) sums.push_back(streams[s] + what[s]);
  return sums;
}

Streams subtract(const Streams& streams, const Streams& what) {
  Streams differences;
  for (size_t s = 0; s < streams.size(); ++s) differences.push_back(streams[s] - what[s]);
  return differences;
}

void require_deterministic(const Context& context, std::string_view name) {
  if (!context.is_stochastic) return;
  throw UsageError(
      concat("the cache ", name, " looks at how much changes between steps, and this sampler adds noise at each"),
      "take a cache that goes by the steps alone, such as pab, or another scheduler");
}

}  // namespace kinora::cache
