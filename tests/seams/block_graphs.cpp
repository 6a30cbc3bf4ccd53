#include "seams/block_graphs.h"

#include <algorithm>
#include <stdexcept>

#include "kinora/base/error.h"

namespace kinora::seams {
namespace {

/// Plays a policy during capture: answers by the bits, hands out twins, notes what is to be kept.
class Script : public Policy {
 public:
  explicit Script(std::vector<SiteKey>* discovered) : discovered_(discovered) {}
  Script(const std::vector<SiteKey>& sites, const std::vector<bool>& reused, const std::vector<bool>& kept,
         std::map<size_t, Streams> twins)
      : sites_(&sites), reused_(reused), kept_(kept), twins_(std::move(twins)) {}

  bool reuses(const SiteKey& key, const Run&) const override {
    if (discovered_) discovered_->push_back(key);
    return !discovered_ && reused_[index(key)];
  }
  bool keeps(const SiteKey& key, const Run&) const override { return !discovered_ && kept_[index(key)]; }
  Streams reuse(const SiteKey& key, const Run&) override { return twins_.at(index(key)); }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override { outputs[index(key)] = streams; }

  std::map<size_t, Streams> outputs;

 private:
  size_t index(const SiteKey& key) const {
    for (size_t i = 0; i < sites_->size(); ++i) {
      if ((*sites_)[i].path == key.path && (*sites_)[i].point == key.point) return i;
    }
    throw std::logic_error(concat("a site that was not there at the first capture: ", key.path));
  }
  std::vector<SiteKey>* discovered_ = nullptr;
  const std::vector<SiteKey>* sites_ = nullptr;
  std::vector<bool> reused_, kept_;
  std::map<size_t, Streams> twins_;
};

std::string text_of(const std::vector<bool>& bits) {
  std::string out;
  for (const bool b : bits) out += b ? '1' : '0';
  return out;
}

}  // namespace

Streams BlockGraphs::stack(const Run& run, const Stack& blocks, Streams streams) {
  Stack as_graphs = blocks;
  as_graphs.block = [this, &blocks](const Run& r, int block, Streams in) {
    return run_block(r, blocks, block, std::move(in));
  };
  Run inside = run;
  inside.policy = inner_;
  return kinora::stack(inside, as_graphs, std::move(streams));
}

Streams BlockGraphs::run_block(const Run& run, const Stack& blocks, int block, Streams streams) {
  const std::vector<Tensor> conditioning = forgets_conditioning ? std::vector<Tensor>() : blocks.conditioning;
  const size_t width = streams.size();
  const auto first = [](const std::vector<Tensor>& all, size_t begin, size_t n) {
    return Streams(all.begin() + static_cast<std::ptrdiff_t>(begin),
                   all.begin() + static_cast<std::ptrdiff_t>(begin + n));
  };
  const auto trace = [&](const std::vector<Tensor>& inputs,
                         const std::function<Script(const std::vector<Tensor>&)>& script_for) {
    return capture(
        inputs, conditioning, run.weights,
        [&](const std::vector<Tensor>& twins, WeightSource* weights) {
          Script script = script_for(twins);
          Run r = run;
          r.policy = &script;
          r.weights = weights;
          std::vector<Tensor> out = blocks.block(r, block, first(twins, 0, width));
          for (const auto& [site, values] : script.outputs) out.insert(out.end(), values.begin(), values.end());
          return out;
        },
        own_storage ? SIZE_MAX : width);
  };
  if (!sites_.count(block)) {
    std::vector<SiteKey> found;
    trace(streams, [&](const auto&) { return Script(&found); });
    sites_[block] = found;
  }
  const auto& sites = sites_.at(block);
  std::vector<bool> reached(sites.size()), reused(sites.size()), kept(sites.size());
  std::vector<Tensor> inputs = streams;
  std::map<size_t, Streams> from_policy;
  for (size_t i = 0; inner_ && i < sites.size(); ++i) {
    bool is_inside_reused = false;  // the module of a reused residual is never reached
    for (size_t j = 0; j < i; ++j) is_inside_reused = is_inside_reused || (reused[j] && sites[j].path == sites[i].path);
    if (is_inside_reused) continue;
    reached[i] = true;
    reused[i] = inner_->reuses(sites[i], run);
    kept[i] = !reused[i] && inner_->keeps(sites[i], run);
    if (!reused[i]) continue;
    from_policy[i] = inner_->reuse(sites[i], run);
    inputs.insert(inputs.end(), from_policy[i].begin(), from_policy[i].end());
  }
  std::string key = concat(blocks.path, ".", block, " reused ", text_of(reused), " kept ", text_of(kept));
  for (const Tensor& t : inputs) key += concat(" ", t.sizes(), t.strides());
  for (const Tensor& t : conditioning) key += t.defined() ? concat(" ", t.sizes(), t.strides()) : " none";
  auto plan = plans_.find(key);
  if (plan == plans_.end()) {
    // Twins of what the policy has lie behind the streams, in the order of sites.
    plan = plans_
               .emplace(key, trace(inputs,
                                   [&](const std::vector<Tensor>& twins) {
                                     std::map<size_t, Streams> twins_of;
                                     size_t next = width;
                                     for (const auto& [site, values] : from_policy) {
                                       twins_of[site] = first(twins, next, values.size());
                                       next += values.size();
                                     }
                                     return Script(sites, reused, kept, std::move(twins_of));
                                   }))
               .first;
  }
  ++replays;
  inputs.insert(inputs.end(), conditioning.begin(), conditioning.end());
  const auto outputs = replay(plan->second, inputs, &mismatches);
  size_t next = width;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (kept[i]) {
      inner_->keep(sites[i], run, first(outputs, next, width));
      next += width;
    }
    if (reached[i]) inner_->ran(sites[i], run, reused[i]);
  }
  return first(outputs, 0, width);
}

std::vector<std::string> BlockGraphs::keys() const {
  std::vector<std::string> out;
  for (const auto& [key, graph] : plans_) out.push_back(key);
  return out;
}

size_t BlockGraphs::nodes(const std::string& prefix) const {
  size_t total = 0;
  for (const auto& [key, graph] : plans_) {
    if (key.starts_with(prefix)) total += graph.nodes.size();
  }
  return total;
}

}  // namespace kinora::seams
