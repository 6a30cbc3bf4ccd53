// A region: nodes that run in a loop over pieces of their results, and how one piece is computed. Demands go backward
// from the rows of the last result (Zhao et al. 2024, AutoChunk, section 3.2); a value that two nodes need at different
// rows is computed for all of them (the halo of a chain of convolutions), a value that is needed whole is computed once,
// before the loop.
#pragma once

#include <optional>
#include <vector>

#include "kinora/graph/rules.h"

namespace kinora::graph {

enum class RegionKind : uint8_t {
  rows,    ///< pieces of the last result
  columns  ///< pieces of the features that the last node, a linear layer, sums over: equal up to rounding
};

/// Nodes [begin, end). dim: of the last node's first result; of columns not used.
struct Region {
  int begin = 0, end = 0;
  RegionKind kind = RegionKind::rows;
  int dim = 0;
  int64_t chunk = 0;  ///< rows of one piece
  bool operator==(const Region&) const = default;
};

struct Step {
  int node;
  Part out;  ///< what its results hold
  Cut cut;
};

/// How one piece is computed.
struct Course {
  std::vector<Step> steps;   ///< in order
  std::vector<int> hoisted;  ///< nodes that run whole before the loop, in order
  struct Output {
    int value;
    Part part;  ///< the rows that this piece gives
  };
  std::vector<Output> outputs;
};

/// Finds courses. Keeps scratch of the graph's size: one for many questions.
class Router {
 public:
  explicit Router(const Graph& graph);
  /// Rows (or features) in all; 0: not such a region.
  int64_t length(const Region& region) const;
  /// nullopt: the nodes cannot be cut so.
  std::optional<Course> course(const Region& region, int64_t begin, int64_t end);
  struct StatisticsPiece {
    Part part;      ///< of what the two-pass node reads; all parts together are all rows, once
    Course course;  ///< the steps that give it
  };
  /// As many pieces as the region has, or about; nullopt: it cannot be cut so.
  std::optional<std::vector<StatisticsPiece>> statistics(const Region& region, const Step& two_pass);
  /// The first and the last course may differ from those between: tries all pieces.
  bool runs(const Region& region);

  const Graph& graph() const { return graph_; }

 private:
  struct Demand {
    uint32_t stamp = 0;
    bool is_whole = false;
    Part part;
  };
  Demand& demand(int id);
  bool ask(int id, const Part& part);
  bool ask_all(const Node& node, const Cut& cut);
  bool can_write(const Node& node, const Region& region) const;
  bool can_leave(int id, const Region& region) const;
  std::optional<Cut> choose_dim(const Region& region, const Node& node, int64_t begin, int64_t end, int64_t length,
                                Part& out);
  bool visit(const Region& region, int index, int64_t begin, int64_t end, Course& course);
  std::optional<Course> walk(const Region& region, int last, int64_t begin, int64_t end);
  std::optional<Course> course_to(const Region& region, int two_pass_node, const Part& rows);

  const Graph& graph_;
  std::vector<Demand> demands_;
  std::vector<bool> is_chain_;             // by root: later values are new versions, no views
  std::vector<std::vector<int>> aliases_;  // by root: its values
  uint32_t stamp_ = 0;
};

}  // namespace kinora::graph
