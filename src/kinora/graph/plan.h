// Which regions run in pieces, and in pieces of what size: the least predicted time within a budget. Whatever crosses a
// region's border is whole, so that a region's peak does not depend on the others: disjoint regions are found by an
// interval recursion, exactly (AutoChunk, section 3.3, uses a beam).
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "kinora/graph/appraisal.h"

namespace kinora::graph {

struct PlanOptions {
  int64_t budget = INT64_MAX;  ///< bytes of activations: what the graph allocates, and inputs that are moved in
  bool exact = true;           ///< only what is the same bits: no columns, no two-pass norms
  int64_t align_rows = 16;     ///< rows of a piece are a multiple of it (128 on a GPU)
  int window = 40;             ///< nodes of a region at most
  Machine machine = {};
  std::function<bool(const Region&)> refuses = {};  ///< regions that turned out wrong
};

struct Plan {
  std::vector<Region> regions;
  int64_t bytes = 0;  ///< predicted peak
  double seconds = 0;
  int64_t whole_bytes = 0;  ///< of the replay without regions
  double whole_seconds = 0;
};

/// A region with its appraisal where it stands.
struct Candidate {
  Region region;  ///< without chunk
  Appraisal appraisal;
  int64_t entering_bytes = 0;  ///< alive around it
};

/// All candidates, by the node behind their last. Ranges that are equal by structure are appraised once.
std::vector<std::vector<Candidate>> candidates(const Graph& graph, const PlanOptions& options);

/// Bytes that each node needs when it runs whole.
std::vector<int64_t> whole_bytes(const Graph& graph);
/// Bytes alive when each node begins, its own results not counted.
std::vector<int64_t> entering_bytes(const Graph& graph);

/// Plans of one graph, which must outlive it, for any budget: what can be cut is found once.
class Planner {
 public:
  /// The budget of `options` is of no interest.
  Planner(const Graph& graph, PlanOptions options);
  /// The smallest budget that plan() accepts.
  int64_t least() const;
  /// Throws ResourceError, naming the smallest budget that works, when `budget` is too small.
  Plan plan(int64_t budget) const;

 private:
  using Ranges = std::set<std::pair<int, int>>;
  int64_t least(const Ranges& without) const;
  std::optional<Plan> best(int64_t budget, const Ranges& without) const;
  Ranges wrong_in(const Plan& plan) const;

  const Graph& graph_;
  PlanOptions options_;
  std::vector<std::vector<Candidate>> all_;
  std::vector<int64_t> whole_;
};

/// The same for one budget.
Plan plan(const Graph& graph, const PlanOptions& options);
int64_t least_budget(const Graph& graph, const PlanOptions& options);

}  // namespace kinora::graph
