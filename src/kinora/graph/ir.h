// What a captured computation is: dispatcher calls in order, and the tensors that pass between them. Values are
// numbered in the order in which they appear; a write makes a new value of the same storage.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <string>
#include <vector>

namespace kinora::graph {

using at::Tensor;
using CallStack = torch::jit::Stack;

/// An argument of a node: something that is no tensor, or tensors by the index of their value.
struct Argument {
  enum class Form : uint8_t { plain, one, list, optionals } form = Form::plain;
  c10::IValue plain;
  std::vector<int> ids;  ///< -1: none
};

struct Rule;  // rules.h

struct Node {
  c10::OperatorHandle op;
  std::vector<Argument> arguments;
  std::vector<int> results;  ///< a flat list, also where the operator returns a list
  std::vector<int> writes;   ///< values that this node wrote over; their new versions are among the results

  std::vector<int> reads;      ///< every tensor argument's value in order; -1 where an optional one is absent
  const Rule* rule = nullptr;  ///< nullptr: an operator that nobody knows

  const std::string& name() const { return op.schema().name(); }
};

struct Value {
  Tensor twin;       ///< meta, of the shape and strides at capture
  Tensor constant;   ///< weights, and what was computed from constants alone
  int root = 0;      ///< the first value of the same storage
  int def = -1;      ///< the node that made it; -1: an input or a constant
  int last_use = 0;  ///< the last node that reads it, or that made it; nodes.size(): it outlives them all
  bool is_output = false;
};

/// A storage, by its first value.
struct Storage {
  int64_t bytes = 0;
  int def = -1, last_use = 0;     ///< over all its values
  bool is_fixed = false;          ///< of an input or a constant: not the graph's to free
  bool is_written_later = false;  ///< a node writes into it after its first
  bool is_counted = true;         ///< among the graph's bytes
};

struct Graph {
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<int> inputs;  ///< -1: not given
  size_t given = 0;         ///< the memory of so many inputs is the graph's from the start: they are moved in
  std::vector<int> outputs;
  size_t counted = SIZE_MAX;      ///< outputs; those behind them are counted by whoever keeps them
  std::vector<Storage> storages;  ///< by value index; only those of roots mean something

  const Value& value(int id) const { return values[static_cast<size_t>(id)]; }
  const Storage& storage_of(int id) const { return storages[static_cast<size_t>(value(id).root)]; }
  const Node& node(int i) const { return nodes[static_cast<size_t>(i)]; }
  int size() const { return static_cast<int>(nodes.size()); }
};

/// Fills in what follows from nodes, inputs and outputs: definitions, last uses, storages.
void finish(Graph& graph);

/// Bytes of a value alone, whatever its storage holds besides.
int64_t bytes_of(const Value& value);

/// Bytes alive while each node runs, inputs, constants and what others count left out: what liveness alone needs, scratch not counted.
std::vector<int64_t> live_bytes(const Graph& graph);

/// One line a node: "%5 = aten::add.Tensor(%3, %4, 1) [2, 16]".
std::string text_of(const Graph& graph);

}  // namespace kinora::graph
