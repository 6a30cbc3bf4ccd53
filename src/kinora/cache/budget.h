// A budget for what a cache keeps. Where not every site's value fits, those are kept that save most work for their bytes,
// and the others are always computed, or lie in the host's memory where that is another than the device's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kinora::cache {

/// What keeping at one site takes and gives in a whole denoising.
struct SiteUse {
  /// For each call: whether a value of an earlier one lies there until the site is visited. One more: behind the last call.
  std::vector<bool> waits;
  std::vector<bool> taken;  ///< for each call: whether it takes what was kept
  int64_t reuses() const { return std::count(taken.begin(), taken.end(), true); }
  int64_t values = 1;  ///< of a block's output, that are kept at one time
};

/// Values that are kept at one time at most, `uses` in the order in which a call visits the sites.
int64_t most_values(std::span<const SiteUse> uses);

/// Whether each site is kept: by what it saves for each value, the most first, as long as at no time more than `most` values
/// are kept. saved: work in the whole denoising, for each site.
std::vector<bool> choose_sites(std::span<const SiteUse> uses, std::span<const double> saved, int64_t most);

/// What a budget came to.
struct BudgetUse {
  uint64_t limit = 0;                 ///< that was given
  uint64_t bytes = 0, all_bytes = 0;  ///< kept at one time at most; the same without a limit
  int64_t all_row_bytes = 0;          ///< all_bytes for each row of a block's output
  int64_t on_host = 0;                ///< sites whose values lie in the host's memory, beyond the limit
  int64_t kept = 0, sites = 0;        ///< of those that would be reused; 0: the method keeps a few values, and all fit
  double share = 1;                   ///< of the work that all of them would save
};

/// "kept 40 of 112 sites, 62 % of the saving" or "kept 112 of 112 sites, 72 of them in the host's memory", or nothing where there are no sites to choose from.
std::string text_of(const BudgetUse& use);

}  // namespace kinora::cache
