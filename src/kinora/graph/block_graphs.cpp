#include "kinora/graph/block_graphs.h"

#include <algorithm>
#include <set>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/memory.h"
#include "kinora/graph/capture.h"
#include "kinora/graph/hash.h"
#include "kinora/graph/script.h"
#include "kinora/graph/verify.h"

namespace kinora::graph {
namespace {

std::string text_of(const std::vector<bool>& bits) {
  std::string out;
  for (const bool b : bits) out += b ? '1' : '0';
  return out;
}

Streams some(const std::vector<Tensor>& all, size_t begin, size_t n) {
  return Streams(all.begin() + static_cast<std::ptrdiff_t>(begin),
                 all.begin() + static_cast<std::ptrdiff_t>(begin + n));
}

/// What the block gives, and behind it what its sites keep.
std::vector<Tensor> trace(const Run& run, const Stack& blocks, int block, Streams streams, Script& script) {
  std::vector<Tensor> out = trace_block(run, blocks, block, std::move(streams), script);
  for (const auto& [site, values] : script.outputs) out.insert(out.end(), values.begin(), values.end());
  return out;
}

}  // namespace

struct BlockGraphs::Captured {
  std::unique_ptr<Graph> graph;  ///< none: the block cannot be captured
  std::unique_ptr<Chunked> chunked;
  Arena* arena = nullptr;
  bool was_replayed = false;
};

struct BlockGraphs::Sites {
  const std::vector<SiteKey>* keys;
  SiteBits bits;
  std::map<size_t, Streams> from_policy;
};

BlockGraphs::BlockGraphs(BlockGraphOptions options, Policy* inner) : options_(std::move(options)), inner_(inner) {}
BlockGraphs::~BlockGraphs() = default;

Streams BlockGraphs::stack(const Run& run, const Stack& blocks, Streams streams) {
  Stack as_graphs = blocks;
  as_graphs.block = [this, &blocks](const Run& r, int block, Streams in) {
    return run_block(r, blocks, block, std::move(in));
  };
  Run inside = run;
  inside.policy = inner_;
  return kinora::stack(inside, as_graphs, std::move(streams));
}

BlockGraphs::Captured BlockGraphs::capture_block(const Run& run, const Stack& blocks, int block,
                                                 const std::vector<Tensor>& inputs, size_t width, const Sites& sites) {
  Captured c;
  const CaptureInputs in{.inputs = inputs,
                         .conditioning = blocks.conditioning,
                         .given = width,
                         .counted = options_.counts_kept ? SIZE_MAX : width};
  try {
    c.graph = std::make_unique<Graph>(capture(in, [&](const std::vector<Tensor>& twins) {
      std::map<size_t, Streams> twins_of;
      size_t next = width;
      for (const auto& [site, values] : sites.from_policy) {
        twins_of[site] = some(twins, next, values.size());
        next += values.size();
      }
      Script script(*sites.keys, sites.bits, std::move(twins_of));
      return trace(run, blocks, block, some(twins, 0, width), script);
    }));
  } catch (const c10::NotImplementedError& e) {  // an operator of which nobody knows what shape it gives
    log_warn(concat(blocks.path, ".", block,
                    " runs without a graph: ", std::string(e.what_without_backtrace()).substr(0, 200)));
    return c;
  }
  ++counts_.graphs;
  std::vector<Tensor> all = inputs;
  all.insert(all.end(), blocks.conditioning.begin(), blocks.conditioning.end());
  const Plan& p = plan_for(*c.graph, all);
  counts_.bytes = std::max(counts_.bytes, p.bytes);
  counts_.whole_bytes = std::max(counts_.whole_bytes, p.whole_bytes);
  c.chunked = std::make_unique<Chunked>(*c.graph, p.regions);
  if (options_.uses_arena) {
    auto& arena = arenas_[hash_of(*c.graph)];
    if (!arena) arena = std::make_unique<Arena>(memory_);
    c.arena = arena.get();
  }
  return c;
}

size_t BlockGraphs::nodes(std::string_view key) const {
  size_t total = 0;
  for (const auto& [name, captured] : captured_) {
    if (captured->graph && name.starts_with(key)) total += captured->graph->nodes.size();
  }
  return total;
}

const Plan& BlockGraphs::plan_for(const Graph& graph, const std::vector<Tensor>& inputs) {
  const uint64_t hash = hash_of(graph);
  const auto known = plans_.find(hash);
  if (known != plans_.end()) return known->second;
  std::optional<Plan> p = options_.plans ? options_.plans->find(graph, options_.plan) : std::nullopt;
  if (!p) {
    p = plan(graph, options_.plan);
    if (options_.verifies) drop_wrong_regions(*p, graph, inputs);
    if (options_.plans) options_.plans->put(graph, options_.plan, *p);
  }
  ++counts_.plans;
  return plans_.emplace(hash, std::move(*p)).first->second;
}

void BlockGraphs::drop_wrong_regions(Plan& p, const Graph& graph, const std::vector<Tensor>& inputs) {
  // Both ways side by side.
  if (p.regions.empty() || static_cast<uint64_t>(p.whole_bytes + p.bytes) > available_memory_bytes()) return;
  std::vector<Region> wrong;
  for (;;) {
    const Chunked chunked(graph, p.regions);
    const std::vector<size_t> found = wrong_regions(chunked, inputs, options_.plan.exact ? 0 : options_.tolerance);
    ++counts_.verified;
    if (found.empty()) return;
    for (const size_t i : found) wrong.push_back(p.regions[i]);
    counts_.dropped += static_cast<int>(found.size());
    PlanOptions without = options_.plan;
    without.refuses = [&](const Region& r) {
      return std::any_of(wrong.begin(), wrong.end(), [&](const Region& w) {
        return w.begin == r.begin && w.end == r.end && w.kind == r.kind && w.dim == r.dim;
      });
    };
    p = plan(graph, without);
  }
}

Streams BlockGraphs::run_block(const Run& run, const Stack& blocks, int block, Streams streams) {
  const size_t width = streams.size();
  const std::string place = concat(blocks.path, ".", block);
  if (!sites_.count(place)) {
    std::vector<SiteKey> found;
    try {
      capture({streams, blocks.conditioning, 0}, [&](const std::vector<Tensor>& twins) {
        Script script(&found);
        return trace(run, blocks, block, twins, script);
      });
    } catch (const c10::NotImplementedError&) {
      found.clear();  // the next capture says so, and the block runs as it is
    }
    sites_[place] = found;
  }
  Sites sites{.keys = &sites_.at(place)};
  const std::vector<SiteKey>& keys = *sites.keys;
  sites.bits = {std::vector<bool>(keys.size()), std::vector<bool>(keys.size()), std::vector<bool>(keys.size())};
  SiteBits& bits = sites.bits;
  std::vector<Tensor> inputs = std::move(streams);
  for (size_t i = 0; inner_ && i < keys.size(); ++i) {
    bool is_inside_reused = false;  // the module of a reused residual is never reached
    for (size_t j = 0; j < i; ++j)
      is_inside_reused = is_inside_reused || (bits.reused[j] && keys[j].path == keys[i].path);
    if (is_inside_reused) continue;
    bits.reached[i] = true;
    bits.reused[i] = inner_->reuses(keys[i], run);
    bits.kept[i] = !bits.reused[i] && inner_->keeps(keys[i], run);
    if (!bits.reused[i]) continue;
    sites.from_policy[i] = inner_->reuse(keys[i], run);
    inputs.insert(inputs.end(), sites.from_policy[i].begin(), sites.from_policy[i].end());
  }
  std::string key = concat(place, " reused ", text_of(bits.reused), " kept ", text_of(bits.kept), " rows ");
  // Branches have captions of their own, whose lengths are baked in.
  for (const Branch branch : run.rows) key += branch == Branch::cond ? 'c' : 'u';
  for (const Tensor& t : inputs) key += concat(" ", t.scalar_type(), t.sizes(), t.strides());
  for (const Tensor& t : blocks.conditioning) key += t.defined() ? concat(" ", t.sizes(), t.strides()) : " none";
  auto found = captured_.find(key);
  if (found == captured_.end()) {
    found = captured_.emplace(key, std::make_unique<Captured>(capture_block(run, blocks, block, inputs, width, sites)))
                .first;
  }
  sites.from_policy.clear();
  Captured& c = *found->second;
  if (!c.graph) {
    ++counts_.eager;
    Run r = run;
    r.policy = inner_;
    return blocks.block(r, block, some(inputs, 0, width));
  }
  inputs.insert(inputs.end(), blocks.conditioning.begin(), blocks.conditioning.end());
  std::vector<Tensor> outputs;
  const ReplayOptions replay{.mismatches = c.was_replayed ? nullptr : &mismatches_};
  const auto go = [&] { outputs = (*c.chunked)(std::move(inputs), replay); };
  if (c.arena) {
    c.arena->run(go);
  } else {
    go();
  }
  c.was_replayed = true;
  ++counts_.replays;
  size_t next = width;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (bits.kept[i]) {
      inner_->keep(keys[i], run, some(outputs, next, width));
      next += width;
    }
    if (bits.reached[i]) inner_->ran(keys[i], run, bits.reused[i]);
  }
  return some(outputs, 0, width);
}

}  // namespace kinora::graph
