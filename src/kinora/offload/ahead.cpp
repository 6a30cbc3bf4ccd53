#include "kinora/offload/ahead.h"

namespace kinora::offload {

void Ahead::ran(const SiteKey& key, const Run& run, bool reused) {
  const auto [place, is_new] = sites_.try_emplace({std::string(key.path), key.point}, Site{.key = key, .ids = {}});
  if (is_new) {
    place->second.key.path = place->first.first;
    for (const Param& p : params_) {
      const bool is_under =
          p.name.size() > key.path.size() && p.name.starts_with(key.path) && p.name[key.path.size()] == '.';
      if (is_under) place->second.ids.push_back(p.id);
    }
  }
  if (inner_) inner_->ran(key, run, reused);
}

std::vector<bool> Ahead::reused(const Run& run) const {
  std::vector<bool> ids(static_cast<size_t>(params_.size()));
  for (const auto& [place, site] : sites_) {
    if (!inner_->reuses(site.key, run)) continue;
    for (const int32_t id : site.ids) ids[static_cast<size_t>(id)] = true;
  }
  return ids;
}

Streams Ahead::stack(const Run& run, const Stack& blocks, Streams streams) {
  if (!inner_) return Policy::stack(run, blocks, std::move(streams));
  Run next = run;
  const auto call = static_cast<size_t>(++next.step.call);
  const bool is_last = call >= run.step.schedule.size();
  if (!is_last) next.step.timestep = run.step.schedule[call];
  weights_.skip(reused(run), is_last ? std::vector<bool>() : reused(next));
  return inner_->stack(run, blocks, std::move(streams));
}

}  // namespace kinora::offload
