#include "kinora/graph/parts.h"

#include "kinora/graph/recorder.h"

namespace kinora::graph {

std::vector<Tensor> call_cut(const Node& node, const Cut& cut, CallStack& stack) {
  for (const auto& [argument, value] : cut.rewrites) stack[static_cast<size_t>(argument)] = value;
  std::vector<Tensor> results;
  if (node.name() == "aten::view") {
    results.push_back(at::reshape(stack[0].toTensor(), stack[1].toIntVector()));
  } else {
    node.op.callBoxed(stack);
    results = tensors_of_results(stack, stack.size());
  }
  if (!cut.trim.is_whole()) {
    for (Tensor& t : results) t = part_of(t, cut.trim);
  }
  return results;
}

}  // namespace kinora::graph
