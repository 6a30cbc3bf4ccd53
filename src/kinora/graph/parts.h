// Running a node on parts of its arguments.
#pragma once

#include "kinora/graph/rules.h"

namespace kinora::graph {

/// A view of the rows, or the tensor itself.
inline Tensor part_of(const Tensor& t, const Part& part) {
  return part.is_whole() ? t : t.narrow(part.dim, part.begin, part.length());
}

/// What the node gives for a cut. tensor_of(read, id): the part `cut.needs[read]` of value id. Views of parts that are
/// no views are copies.
template <typename TensorOf>
std::vector<Tensor> run_cut(const Node& node, const Cut& cut, const TensorOf& tensor_of);

/// The call itself, arguments on the stack; the results' wanted rows.
std::vector<Tensor> call_cut(const Node& node, const Cut& cut, CallStack& stack);

template <typename TensorOf>
std::vector<Tensor> run_cut(const Node& node, const Cut& cut, const TensorOf& tensor_of) {
  CallStack stack;
  size_t read = 0;
  for (const Argument& a : node.arguments) {
    switch (a.form) {
      case Argument::Form::plain: stack.push_back(a.plain); break;
      case Argument::Form::one: stack.emplace_back(tensor_of(read++, a.ids[0])); break;
      case Argument::Form::list: {
        c10::List<Tensor> list;
        for (const int id : a.ids) list.push_back(tensor_of(read++, id));
        stack.emplace_back(std::move(list));
        break;
      }
      case Argument::Form::optionals: {
        c10::List<std::optional<Tensor>> list;
        for (const int id : a.ids) {
          list.push_back(id < 0 ? std::nullopt : std::optional<Tensor>(tensor_of(read, id)));
          ++read;
        }
        stack.emplace_back(std::move(list));
        break;
      }
    }
  }
  return call_cut(node, cut, stack);
}

}  // namespace kinora::graph
