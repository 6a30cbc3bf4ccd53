// The state of one capture: which tensor is which value, and what may be written or read.
#pragma once

#include <set>
#include <unordered_map>

#include "kinora/graph/ir.h"

namespace kinora::graph {

class Recorder {
 public:
  explicit Recorder(Graph& graph) : graph_(graph) {}

  /// by_identity: the function reads the real tensor itself.
  int add_input(const Tensor& real, bool by_identity);
  /// Of a tensor that was met before, else a constant; throws where it may not be one.
  int id_of(const Tensor& t);
  /// Throws when nothing wrote this value's storage.
  void check_read(int id) const;
  /// Runs one dispatcher call on twins and notes it.
  void record(const c10::OperatorHandle& op, CallStack& stack);

  int constants_allowed = 0;
  c10::Device device = c10::kCPU;  ///< of the inputs: where factories make tensors when replayed

 private:
  const Tensor& twin(int id) const { return graph_.value(id).twin; }
  int root(int id) const { return graph_.value(id).root; }
  int add_value(const Tensor& value_twin, const Tensor& constant);
  int add_constant(const Tensor& t);
  Argument argument_of(const c10::IValue& v);
  c10::IValue twin_argument(const Argument& a) const;
  bool is_symbolic(const c10::IValue& v) const;
  bool is_known_symbolic(const Tensor& t) const;
  void fold(const c10::OperatorHandle& op, CallStack& stack);
  void note_results(const c10::OperatorHandle& op, const CallStack& stack, Node& node);
  void check_uses(const Node& node, bool allocates);

  Graph& graph_;
  std::unordered_map<const c10::TensorImpl*, int> ids_;
  std::unordered_map<const c10::StorageImpl*, int> roots_;
  std::set<int> symbolic_, fixed_roots_, unwritten_;
  std::set<const c10::TensorImpl*> folded_;
  std::vector<Tensor> real_;  // alive, so that no address comes twice
};

/// The tensors that a call left on the stack, lists flattened.
std::vector<Tensor> tensors_of_results(const CallStack& stack, size_t returns);

}  // namespace kinora::graph
