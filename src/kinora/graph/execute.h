// Replay of a captured graph on real tensors.
#pragma once

#include <string>
#include <vector>

#include "kinora/graph/ir.h"

namespace kinora::graph {

struct ReplayOptions {
  bool poisons = false;                            ///< for tests: what nobody needs any more is filled with NaN
  std::vector<std::string>* mismatches = nullptr;  ///< gets results that have another layout than their twins
};

/// What a node is called with: values by `tensor_of`.
template <typename TensorOf>
void push_arguments(const Node& node, CallStack& stack, const TensorOf& tensor_of) {
  for (const Argument& a : node.arguments) {
    switch (a.form) {
      case Argument::Form::plain: stack.push_back(a.plain); break;
      case Argument::Form::one: stack.emplace_back(tensor_of(a.ids[0])); break;
      case Argument::Form::list: {
        c10::List<Tensor> list;
        for (const int id : a.ids) list.push_back(tensor_of(id));
        stack.emplace_back(std::move(list));
        break;
      }
      case Argument::Form::optionals: {
        c10::List<std::optional<Tensor>> list;
        for (const int id : a.ids) list.push_back(id < 0 ? std::nullopt : std::optional<Tensor>(tensor_of(id)));
        stack.emplace_back(std::move(list));
        break;
      }
    }
  }
}

/// The tensors of a graph while it is replayed.
class Values {
 public:
  /// Throws UsageError when the inputs are not those of the graph: number, sizes, dtype.
  Values(const Graph& graph, std::vector<Tensor> inputs);
  const Tensor& at(int id) const { return now_[static_cast<size_t>(id)]; }
  void set(int id, Tensor t) { now_[static_cast<size_t>(id)] = std::move(t); }
  /// Gives up every value that no node behind `node` reads.
  void release_after(int node, bool poisons);
  /// The graph's outputs, each with a storage of its own.
  std::vector<Tensor> take_outputs();

 private:
  const Graph& graph_;
  std::vector<Tensor> now_;
  std::vector<std::vector<int>> dying_;  ///< by node
};

/// Runs one node on whole tensors.
void run_node(const Graph& graph, int node, Values& values, const ReplayOptions& options);

/// Runs the graph; a tensor lives until its last use. Inputs that were moved in die as the rest does. Outputs have
/// storages of their own: no view of something larger, of an input, a constant or each other. Bit for bit what the
/// captured function gives.
std::vector<Tensor> replay(const Graph& graph, std::vector<Tensor> inputs, const ReplayOptions& options = {});

}  // namespace kinora::graph
