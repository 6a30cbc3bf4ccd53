// Which regions run in pieces, and in pieces of what size: the least predicted time within a budget. Whatever crosses a
// region's border is whole, so that a region's peak does not depend on the others: disjoint regions are found by an
// interval recursion, exactly (AutoChunk, section 3.3, uses a beam).
#pragma once

#include <functional>
#include <set>

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

/// Throws ResourceError, naming the smallest budget that works, when `budget` is too small.
Plan plan(const Graph& graph, const PlanOptions& options);

/// The smallest budget that plan() accepts.
int64_t least_budget(const Graph& graph, const PlanOptions& options);

}  // namespace kinora::graph
