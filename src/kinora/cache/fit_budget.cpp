#include "kinora/cache/fit_budget.h"

#include <algorithm>
#include <numeric>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"

namespace kinora::cache {
namespace {

/// The sites in the order in which a denoising takes what is kept there.
std::vector<std::string> takes_of(std::span<const SiteUse> uses, const Context& context, const Paths& sites) {
  std::vector<std::string> takes;
  for (size_t call = 0; call < context.schedule.size(); ++call) {
    for (size_t i = 0; i < uses.size(); ++i) {
      if (uses[i].taken[call] && sites.contains(context.order[i].path)) takes.push_back(context.order[i].path);
    }
  }
  return takes;
}

/// Work that each site saves in the whole denoising.
std::vector<double> saved_by(std::span<const SiteUse> uses, const Context& context) {
  std::vector<double> saved;
  for (const SiteUse& use : uses) saved.push_back(context.order[saved.size()].work * static_cast<double>(use.reuses()));
  return saved;
}

void refuse(std::string_view name, const Method& method, uint64_t least, uint64_t limit) {
  throw UsageError(
      concat("the cache ", name, " keeps ", method.uses().empty() ? "" : "at least ", human_bytes(least),
             ", and its budget is ", human_bytes(limit)),
      concat("give --cache-memory ", least, method.form() == Form::int8 ? " or more" : " or more, or set keep=int8"));
}

}  // namespace

void fit_budget(Method& method, const Context& context, std::string_view name) {
  BudgetUse use{.limit = context.budget, .all_row_bytes = method.most_row_bytes(context.width, context.element_bytes)};
  use.all_bytes = use.bytes = static_cast<uint64_t>(use.all_row_bytes * context.rows);
  const std::vector<SiteUse> uses = method.uses();
  const std::vector<double> saved = saved_by(uses, context);
  const auto value_bytes =
      static_cast<uint64_t>(context.rows * row_bytes(method.form(), context.width, context.element_bytes));
  const bool fits = use.all_bytes <= use.limit, with_host = !fits && context.host_for && method.can_use_host();
  // Those on their way between the two memories take room on the device as well.
  const uint64_t in_flight = with_host ? static_cast<uint64_t>(Carrier::kInFlight) * value_bytes : 0;
  uint64_t least = with_host ? in_flight : use.all_bytes;
  for (const SiteUse& site : uses) {
    if (site.reuses() == 0) continue;
    ++use.sites;
    if (!with_host) least = std::min(least, static_cast<uint64_t>(site.values) * value_bytes);
  }
  if (!fits && least > use.limit) refuse(name, method, least, use.limit);
  const uint64_t most = value_bytes > 0 ? (fits ? use.limit : use.limit - in_flight) / value_bytes : 0;
  const std::vector<bool> kept = choose_sites(uses, saved, static_cast<int64_t>(most));
  Paths others, idle;
  std::vector<SiteUse> on_device = uses;
  double saving = 0;
  for (size_t i = 0; i < uses.size(); ++i) {
    if (kept[i]) {
      ++use.kept, saving += saved[i];
      continue;
    }
    (uses[i].reuses() > 0 ? others : idle).insert(context.order[i].path);
    on_device[i].waits.assign(uses[i].waits.size(), false);
  }
  if (!uses.empty()) use.bytes = static_cast<uint64_t>(most_values(on_device)) * value_bytes + in_flight;
  const double all = std::accumulate(saved.begin(), saved.end(), 0.0);
  if (with_host) {
    use.on_host = static_cast<int64_t>(others.size());
    use.kept += use.on_host;
    method.use_host(*context.host_for, others, takes_of(uses, context, others));
  } else {
    idle.merge(others);
    if (all > 0) use.share = saving / all;
  }
  method.leave_out(std::move(idle));
  method.set_budget(use);
}

}  // namespace kinora::cache
