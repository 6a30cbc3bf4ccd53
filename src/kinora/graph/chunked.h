// Replay of a graph in pieces.
#pragma once

#include "kinora/graph/appraisal.h"
#include "kinora/graph/execute.h"

namespace kinora::graph {

/// A graph and its regions with every piece's course worked out. The graph must outlive it.
class Chunked {
 public:
  /// Regions in order, apart from each other. Throws UsageError for one that cannot run.
  Chunked(const Graph& graph, std::vector<Region> regions);
  const std::vector<Region>& regions() const { return regions_; }
  const Graph& graph() const { return graph_; }

  /// As replay(). Inputs that were moved in and that nobody else holds may be written over.
  std::vector<Tensor> operator()(std::vector<Tensor> inputs, const ReplayOptions& options = {}) const;
  /// Runs region `which` alone on the values so far.
  void run_region(size_t which, Values& values, const ReplayOptions& options) const;

 private:
  struct Bound {
    std::vector<Course> pieces;
    struct Statistics {
      int node;
      std::vector<Router::StatisticsPiece> pieces;
    };
    std::vector<Statistics> statistics;
    std::vector<std::pair<int, int>> donations;
  };
  const Graph& graph_;
  std::vector<Region> regions_;
  std::vector<Bound> bound_;
};

}  // namespace kinora::graph
