// Which rows of its arguments an operator needs for some rows of its result: what decides whether a computation can be
// run in pieces (Zhao et al. 2024, AutoChunk, section 3.2, there as a trace of dimensions). One row an operator; an
// operator that has none can be cut nowhere and is replayed whole.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "kinora/graph/ir.h"

namespace kinora::graph {

/// Rows [begin, end) of dimension `dim` of a value, or all of it.
struct Part {
  static constexpr int kWhole = -1;
  int dim = kWhole;
  int64_t begin = 0, end = 0;
  bool is_whole() const { return dim == kWhole; }
  int64_t length() const { return end - begin; }
  bool operator==(const Part&) const = default;
};

/// How a node computes a part of its results.
struct Cut {
  std::vector<Part> needs;                                 ///< of every entry of Node::reads; absent ones are whole
  std::vector<std::pair<int, c10::IValue>> rewrites = {};  ///< arguments that are no tensors, anew
  Part trim = {};            ///< the rows that are wanted of what comes out, where more comes out
  bool is_two_pass = false;  ///< statistics over the cut dimension must be taken first (group norm)
};

enum class Work : uint8_t { view, move, product, attention, convolution };

struct Rule {
  std::string_view name;  ///< "aten::sum.dim_IntList", or without overload where all overloads are alike
  Work work;
  std::optional<Cut> (*cut)(const Graph&, const Node&, const Part& out);
};

/// nullptr: unknown.
const Rule* find_rule(const Node& node);
std::span<const Rule> rules();

/// What `node` needs to give `out` (not whole) of its results; nullopt: it cannot be cut there.
std::optional<Cut> cut(const Graph& graph, const Node& node, const Part& out);

/// Whether the last bits of a number may depend on its place: LibTorch computes some functions by vectors, two at a time,
/// and what is left over at the end one by one, in another way.
bool depends_on_place(const Node& node);

/// Floating-point operations of a node whose results are cut to `share` of their rows.
double flops(const Graph& graph, const Node& node);

}  // namespace kinora::graph
