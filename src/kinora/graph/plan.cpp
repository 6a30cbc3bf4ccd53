#include "kinora/graph/plan.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/graph/hash.h"
#include "kinora/graph/rule_parts.h"

namespace kinora::graph {
namespace {

struct Kindred {
  RegionKind kind;
  int dim;
  Appraisal appraisal;
};

/// Of the nodes [begin, end), every way to cut them.
std::vector<Kindred> ways(Router& router, int begin, int end, const PlanOptions& options) {
  const Graph& graph = router.graph();
  std::vector<Kindred> out;
  const Node& last = graph.node(end - 1);
  if (!last.rule || last.results.empty()) return out;
  const auto dims = static_cast<int>(result(graph, last).dim());
  const auto add = [&](RegionKind kind, int dim) {
    const auto a = appraise(router, {begin, end, kind, dim, 1}, options.machine, options.align_rows);
    if (a && (a->is_exact || !options.exact)) out.push_back({kind, dim, *a});
  };
  for (int d = 0; d < dims; ++d) add(RegionKind::rows, d);
  if (!options.exact) add(RegionKind::columns, 0);
  return out;
}

/// Within `budget`; 0: at no size.
int64_t chunk_of(const Candidate& c, int64_t budget) {
  return c.appraisal.chunk_within(static_cast<double>(budget) - static_cast<double>(c.entering_bytes));
}

struct Choice {
  double seconds = std::numeric_limits<double>::infinity();
  Region region;  ///< begin == end: the node alone, whole
};

Plan assemble(const Graph& graph, const std::vector<Choice>& best, const std::vector<std::vector<Candidate>>& all) {
  Plan p;
  const auto whole = whole_bytes(graph);
  for (int i = graph.size(); i > 0;) {
    const Region& r = best[static_cast<size_t>(i)].region;
    if (r.begin == r.end) {
      p.bytes = std::max(p.bytes, whole[static_cast<size_t>(--i)]);
      continue;
    }
    for (const Candidate& c : all[static_cast<size_t>(i)]) {
      if (c.region.begin == r.begin && c.region.kind == r.kind && c.region.dim == r.dim) {
        p.bytes = std::max(p.bytes, c.entering_bytes + static_cast<int64_t>(c.appraisal.bytes(r.chunk)));
      }
    }
    p.regions.insert(p.regions.begin(), r);
    i = r.begin;
  }
  p.seconds = best.back().seconds;
  if (!whole.empty()) p.whole_bytes = *std::max_element(whole.begin(), whole.end());
  return p;
}

}  // namespace

std::vector<int64_t> whole_bytes(const Graph& graph) {
  std::vector<int64_t> out = live_bytes(graph);
  for (size_t i = 0; i < out.size(); ++i) out[i] += scratch_bytes(graph, static_cast<int>(i));
  return out;
}

std::vector<int64_t> entering_bytes(const Graph& graph) {
  std::vector<int64_t> out = live_bytes(graph);
  for (size_t id = 0; id < graph.values.size(); ++id) {
    const Storage& s = graph.storages[id];
    if (static_cast<size_t>(graph.values[id].root) == id && !s.is_fixed && s.is_counted && s.def >= 0)
      out[static_cast<size_t>(s.def)] -= s.bytes;
  }
  return out;
}

std::vector<std::vector<Candidate>> candidates(const Graph& graph, const PlanOptions& options) {
  Router router(graph);
  const auto hashes = node_hashes(graph);
  const auto entering = entering_bytes(graph);
  std::unordered_map<uint64_t, std::vector<Kindred>> known;
  std::vector<std::vector<Candidate>> out(graph.nodes.size() + 1);
  for (int begin = 0; begin < graph.size(); ++begin) {
    RangeHash hash(graph, hashes, begin, options.window);
    const int most = std::min(graph.size(), begin + options.window);
    for (int end = begin + 1; end <= most; ++end) {
      const uint64_t key = mix(hash.next(), static_cast<uint64_t>(end - begin));
      if (!graph.node(end - 1).rule) break;  // nothing reaches over an operator that nobody knows
      auto found = known.find(key);
      if (found == known.end()) found = known.emplace(key, ways(router, begin, end, options)).first;
      for (const Kindred& k : found->second) {
        const Region region{begin, end, k.kind, k.dim, 0};
        if (options.refuses && options.refuses(region)) continue;
        out[static_cast<size_t>(end)].push_back({region, k.appraisal, entering[static_cast<size_t>(begin)]});
      }
    }
  }
  return out;
}

Planner::Planner(const Graph& graph, PlanOptions options)
    : graph_(graph), options_(std::move(options)), all_(candidates(graph, options_)), whole_(whole_bytes(graph)) {}

int64_t Planner::least(const Ranges& without) const {
  std::vector<int64_t> least(graph_.nodes.size() + 1, 0);
  for (size_t i = 1; i < least.size(); ++i) {
    least[i] = std::max(least[i - 1], whole_[i - 1]);
    for (const Candidate& c : all_[i]) {
      const int64_t chunk = c.appraisal.smallest_chunk();
      if (chunk == 0 || without.count({c.region.begin, c.region.end})) continue;
      // Pieces are chosen within whole bytes: one more is always enough.
      const int64_t needs = c.entering_bytes + static_cast<int64_t>(c.appraisal.bytes(chunk)) + 1;
      least[i] = std::min(least[i], std::max(least[static_cast<size_t>(c.region.begin)], needs));
    }
  }
  return least.back();
}

std::optional<Plan> Planner::best(int64_t budget, const Ranges& without) const {
  std::vector<Choice> best(graph_.nodes.size() + 1);
  best[0].seconds = 0;
  for (size_t i = 1; i < best.size(); ++i) {
    if (whole_[i - 1] <= budget) {
      best[i].seconds = best[i - 1].seconds + seconds(graph_, graph_.node(static_cast<int>(i) - 1), options_.machine);
    }
    for (const Candidate& c : all_[i]) {
      const double before = best[static_cast<size_t>(c.region.begin)].seconds;
      if (before >= best[i].seconds || without.count({c.region.begin, c.region.end})) continue;
      const int64_t chunk = chunk_of(c, budget);
      if (chunk == 0) continue;
      const double after = before + c.appraisal.seconds(chunk);
      if (after >= best[i].seconds) continue;
      best[i].seconds = after;
      best[i].region = c.region;
      best[i].region.chunk = chunk;
    }
  }
  if (best.back().seconds == std::numeric_limits<double>::infinity()) return std::nullopt;
  Plan p = assemble(graph_, best, all_);
  for (const Node& node : graph_.nodes) p.whole_seconds += seconds(graph_, node, options_.machine);
  return p;
}

/// Regions whose ends differ from their middle in what they need.
Planner::Ranges Planner::wrong_in(const Plan& plan) const {
  Router router(graph_);
  Ranges wrong;
  for (const Region& r : plan.regions) {
    if (!router.runs(r)) wrong.insert({r.begin, r.end});
  }
  return wrong;
}

int64_t Planner::least() const {
  for (Ranges without;;) {
    const int64_t bytes = least(without);
    const Ranges wrong = wrong_in(best(bytes, without).value());
    if (wrong.empty()) return bytes;
    without.insert(wrong.begin(), wrong.end());
  }
}

Plan Planner::plan(int64_t budget) const {
  for (Ranges without;;) {
    const std::optional<Plan> p = best(budget, without);
    if (!p) {
      const int64_t bytes = least();
      throw ResourceError(
          concat("activations do not fit into ", human_bytes(static_cast<uint64_t>(std::max<int64_t>(budget, 0)))),
          concat("the least that works here is ", human_bytes(static_cast<uint64_t>(bytes)), " (", bytes, " bytes)",
                 options_.exact ? "; without the promise of equal bits it may be less" : ""));
    }
    const Ranges wrong = wrong_in(*p);
    if (wrong.empty()) return *p;
    without.insert(wrong.begin(), wrong.end());
  }
}

Plan plan(const Graph& graph, const PlanOptions& options) { return Planner(graph, options).plan(options.budget); }

int64_t least_budget(const Graph& graph, const PlanOptions& options) { return Planner(graph, options).least(); }

}  // namespace kinora::graph
