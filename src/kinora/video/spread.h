// How a request lies over ranks: which layout its rows have, and why.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kinora/cache/method.h"
#include "kinora/models/open_sora/config.h"
#include "kinora/parallel/plan.h"

namespace kinora::video {

struct Spread {
  parallel::Arrangement arrangement;
  Extent extent;  ///< of the rows of a clip
  int ranks() const { return arrangement.ranks * arrangement.branches; }
  std::string reason;    ///< one sentence for people; empty for one rank
  double bytes = 0;      ///< that the rank which sends most sends in a model call, on the average
  double exchanges = 0;  ///< of a rank in a model call
};

/// What STDiT3 shows to layouts.
parallel::ModelFacts facts_of(const models::STDiT3Config& config);

struct SpreadRequest {
  std::string name = "auto";  ///< or "guidance", a layout's name, "guidance+" and a layout's name
  int ranks = 1;
  bool on_one_host = true;
  parallel::CallShape call;  ///< of one guidance branch
  bool is_guided = false;
  double call_flops = 0;           ///< with all branches
  parallel::Computed computed;     ///< what a cache leaves of the attentions, and so of their exchanges
  bool decides_by_values = false;  ///< a cache that looks at both branches of guidance, which must then stay together
};

/// What a cache leaves to be computed at these sites, all of a model in the order of a call; all of it where that shows
/// only as it goes.
parallel::Computed computed_share(const cache::Method& cache, std::span<const cache::Site> sites);

/// Throws UsageError that names what fits: for a layout that is not there or that the model or the cache cannot take, and for
/// more ranks than there are frames and rows.
Spread choose_spread(const SpreadRequest& request, const models::STDiT3Config& model);

}  // namespace kinora::video
