#include "kinora/cache/budget.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kinora/base/error.h"

namespace kinora::cache {
namespace {

/// Values that are kept at each visit of a site, call after call.
class Timeline {
 public:
  explicit Timeline(std::span<const SiteUse> uses)
      : sites_(uses.size()), held_(uses.empty() ? 0 : uses.size() * uses[0].waits.size()) {}

  void add(const SiteUse& use, size_t site, int64_t sign = 1) {
    for (size_t call = 0; call < use.waits.size(); ++call) {
      if (!use.waits[call]) continue;
      // From behind its visit in the call before to its visit in this one.
      const size_t visit = call * sites_ + site, begin = call > 0 ? visit - sites_ + 1 : 0;
      const size_t end = std::min(visit + 1, held_.size());
      for (size_t at = begin; at < end; ++at) held_[at] += sign * use.values;
    }
  }
  int64_t most() const { return held_.empty() ? 0 : *std::max_element(held_.begin(), held_.end()); }

 private:
  size_t sites_;
  std::vector<int64_t> held_;
};

}  // namespace

int64_t most_values(std::span<const SiteUse> uses) {
  Timeline timeline(uses);
  for (size_t i = 0; i < uses.size(); ++i) timeline.add(uses[i], i);
  return timeline.most();
}

std::vector<bool> choose_sites(std::span<const SiteUse> uses, std::span<const double> saved, int64_t most) {
  std::vector<size_t> order(uses.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto worth = [&](size_t i) { return saved[i] / static_cast<double>(std::max<int64_t>(1, uses[i].values)); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return worth(a) > worth(b); });
  std::vector<bool> kept(uses.size());
  Timeline timeline(uses);
  for (const size_t i : order) {
    if (uses[i].reuses() == 0) continue;
    timeline.add(uses[i], i);
    kept[i] = timeline.most() <= most;
    if (!kept[i]) timeline.add(uses[i], i, -1);
  }
  return kept;
}

std::string text_of(const BudgetUse& use) {
  if (use.sites == 0) return {};
  if (use.on_host > 0)
    return concat("kept ", use.kept, " of ", use.sites, " sites, ", use.on_host, " of them in the host's memory");
  return concat("kept ", use.kept, " of ", use.sites, " sites, ", std::lround(100 * use.share), " % of the saving");
}

}  // namespace kinora::cache
