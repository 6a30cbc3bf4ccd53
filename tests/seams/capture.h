// A small capture of dispatcher calls on meta twins, and its replay.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <functional>
#include <string>
#include <vector>

#include "kinora/nn/weights.h"

namespace kinora::seams {

/// An argument of a node: a value that is no tensor, or tensors by the index of their value.
struct Argument {
  enum class Form { plain, one, list, optionals } form = Form::plain;
  c10::IValue plain;
  std::vector<int> ids;  ///< -1: none
};

struct Node {
  c10::OperatorHandle op;
  std::vector<Argument> arguments;
  std::vector<int> results;        ///< a flat list, also where the operator returns a list
  std::vector<int> last_of_roots;  ///< values (one a storage) that nobody needs after this node
};

struct Value {
  Tensor twin;      ///< meta, of the shape and strides at capture
  Tensor constant;  ///< weights, and what was computed from constants alone
  int root = 0;     ///< the first value of the same storage
};

struct Graph {
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<int> inputs;  ///< then conditioning; -1: not given
  std::vector<int> outputs;
  size_t lasting = 0;  ///< the memory of so many outputs is theirs; all, unless broken on purpose
};

/// Records what `f` does to twins of `inputs`. `conditioning` are real tensors that `f` reads and that change between
/// replays (undefined: none); `weights` is what `f` must take its weights from. Throws std::logic_error for what
/// would replay wrongly: a real tensor from elsewhere, a value that is read though no operator wrote it, a write into
/// an input.
Graph capture(const std::vector<Tensor>& inputs, const std::vector<Tensor>& conditioning, WeightSource* weights,
              const std::function<std::vector<Tensor>(const std::vector<Tensor>& twins, WeightSource* weights)>& f,
              size_t lasting = SIZE_MAX);

/// Runs the graph on real tensors. A storage is filled with NaN after its last use, as an arena would fill it with
/// other values. Outputs have storages of their own. mismatches: gets the operators whose results have another layout
/// than their twins.
std::vector<Tensor> replay(const Graph& graph, const std::vector<Tensor>& inputs,
                           std::vector<std::string>* mismatches = nullptr);

}  // namespace kinora::seams
