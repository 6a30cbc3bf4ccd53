#include "seams/policies.h"

#include <algorithm>
#include <set>

#include "kinora/cache/branches.h"

namespace kinora::seams {

using cache::branches_of, cache::join_branches, cache::split_branches;

std::map<Kind, PabRule> usual_rules() {
  return {{Kind::spatial, {.range = 2}},
          {Kind::full, {.range = 2}},
          {Kind::temporal, {.range = 4}},
          {Kind::cross, {.range = 6}}};
}

const Pab::Kept* Pab::find(const SiteKey& key, Branch branch) const {
  const auto found = kept_.find({std::string(key.path), branch});
  return found == kept_.end() ? nullptr : &found->second;
}

bool Pab::reuses(const SiteKey& key, const Run& run) const {
  const auto rule = rules_.find(key.kind);
  if (key.point != Point::module || rule == rules_.end()) return false;
  const auto [range, low, high] = rule->second;
  if (run.step.call % range == 0 || !(low < run.step.timestep && run.step.timestep < high)) return false;
  for (const Branch b : branches_of(run)) {
    const Kept* kept = find(key, b);
    if (!kept || run.step.call - kept->call >= range) return false;
  }
  return true;
}

Streams Pab::reuse(const SiteKey& key, const Run& run) {
  log[std::string(key.path)] += 'R';
  std::vector<Streams> groups;
  for (const Branch b : branches_of(run)) {
    groups.push_back(find(key, b)->streams);
    oldest = std::max(oldest, run.step.call - find(key, b)->call);
  }
  return join_branches(groups);
}

void Pab::keep(const SiteKey& key, const Run& run, const Streams& streams) {
  log[std::string(key.path)] += 'C';
  const auto branches = branches_of(run);
  const auto groups = split_branches(streams, branches.size());
  for (size_t g = 0; g < branches.size(); ++g) kept_[{std::string(key.path), branches[g]}] = {groups[g], run.step.call};
}

int Pab::count(char letter) const {
  int64_t n = 0;
  for (const auto& [path, letters] : log) n += std::count(letters.begin(), letters.end(), letter);
  return static_cast<int>(n);
}

size_t Pab::bytes() const {
  std::set<const void*> seen;
  size_t total = 0;
  for (const auto& [key, kept] : kept_) {
    for (const Tensor& t : kept.streams) {
      if (seen.insert(t.storage().unsafeGetStorageImpl()).second) total += t.storage().nbytes();
    }
  }
  return total;
}

double FirstBlockCache::changed(const Run& run, const Stack& blocks, const Tensor& residual) const {
  const auto branches = branches_of(run);
  const auto groups = split_branches({residual}, branches.size());
  std::vector<Tensor> sums;  // per group |r - r_prev|, |r_prev|
  for (size_t g = 0; g < branches.size(); ++g) {
    const auto own = [&](const Tensor& t) { return cuts_padding ? run.layout->own(t, blocks.extent) : t; };
    const Tensor now = own(groups[g][0]), before = own(kept_.at(branches[g]).residual);
    sums.push_back((now - before).abs().sum());
    sums.push_back(before.abs().sum());
  }
  Tensor all = at::stack(sums);
  if (sums_over_ranks) all = run.layout->sum(all);
  double most = 0;
  for (int64_t g = 0; g < static_cast<int64_t>(branches.size()); ++g)
    most = std::max(most, (all[2 * g] / all[2 * g + 1]).item<double>());
  return most;
}

Streams FirstBlockCache::stack(const Run& run, const Stack& blocks, Streams streams) {
  const auto branches = branches_of(run);
  const Streams first = run_blocks(run, blocks, 0, 1, streams);
  const Tensor residual = first[0] - streams[0];
  const bool known = std::all_of(branches.begin(), branches.end(), [&](Branch b) { return kept_.count(b) > 0; });
  if (known) ratios.push_back(changed(run, blocks, residual));
  Streams out;
  if (known && ratios.back() <= threshold_) {
    log += 'R';
    std::vector<Streams> tails;
    for (const Branch b : branches) tails.push_back(kept_.at(b).tail);
    const Streams tail = join_branches(tails);
    for (size_t s = 0; s < first.size(); ++s) out.push_back(first[s] + tail[s]);
    return out;
  }
  log += 'C';
  out = run_blocks(run, blocks, 1, blocks.blocks, first);
  Streams tail;
  for (size_t s = 0; s < first.size(); ++s) tail.push_back(out[s] - first[s]);
  const auto tails = split_branches(tail, branches.size()), residuals = split_branches({residual}, branches.size());
  for (size_t g = 0; g < branches.size(); ++g) kept_[branches[g]] = {residuals[g][0], tails[g]};
  return out;
}

}  // namespace kinora::seams
