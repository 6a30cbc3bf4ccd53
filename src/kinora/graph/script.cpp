#include "kinora/graph/script.h"

#include <optional>
#include <stdexcept>

#include "kinora/base/error.h"
#include "kinora/graph/noted_weights.h"

namespace kinora::graph {

bool Script::reuses(const SiteKey& key, const Run&) const {
  if (found_ == nullptr) return bits_.reused[index(key)];
  for (const SiteKey& known : *found_) {
    if (known.path == key.path && known.point == key.point) return false;
  }
  found_->push_back(key);
  return false;
}

size_t Script::index(const SiteKey& key) const {
  for (size_t i = 0; i < sites_->size(); ++i) {
    if ((*sites_)[i].path == key.path && (*sites_)[i].point == key.point) return i;
  }
  throw std::logic_error(concat("a site that was not there at the first capture: ", key.path));
}

Streams trace_block(const Run& run, const Stack& blocks, int block, Streams streams, Policy& policy) {
  Run r = run;
  std::optional<NotedWeights> noted;
  if (run.weights) r.weights = &noted.emplace(*run.weights);
  r.policy = &policy;
  return blocks.block(r, block, std::move(streams));
}

}  // namespace kinora::graph
