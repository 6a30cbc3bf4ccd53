#include "kinora/graph/execute.h"

#include <cmath>
#include <set>

#include "kinora/base/error.h"
#include "kinora/graph/recorder.h"

namespace kinora::graph {
namespace {

bool has_layout_of(const Tensor& t, const Tensor& twin) {
  return t.sizes() == twin.sizes() && t.strides() == twin.strides() && t.scalar_type() == twin.scalar_type();
}

}  // namespace

Values::Values(const Graph& graph, std::vector<Tensor> inputs)
    : graph_(graph), now_(graph.values.size()), dying_(graph.nodes.size()) {
  if (inputs.size() != graph.inputs.size()) {
    throw UsageError(concat("graph: ", inputs.size(), " inputs for a graph of ", graph.inputs.size()));
  }
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const Value& v = graph.values[i];
    now_[i] = v.constant;
    if (!v.constant.defined() && v.last_use >= 0 && v.last_use < graph.size()) {
      dying_[static_cast<size_t>(v.last_use)].push_back(static_cast<int>(i));
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (graph.inputs[i] < 0) continue;
    const Tensor& twin = graph.value(graph.inputs[i]).twin;
    if (!inputs[i].defined() || inputs[i].sizes() != twin.sizes() || inputs[i].scalar_type() != twin.scalar_type()) {
      throw UsageError(concat("graph: input ", i, " is not ", twin.scalar_type(), " ", twin.sizes()),
                       "capture it anew");
    }
    now_[static_cast<size_t>(graph.inputs[i])] = std::move(inputs[i]);
  }
}

void Values::release_after(int node, bool poisons) {
  for (const int id : dying_[static_cast<size_t>(node)]) {
    const Storage& s = graph_.storage_of(id);
    Tensor& t = now_[static_cast<size_t>(id)];
    if (poisons && s.last_use == node && !s.is_fixed && t.defined() && t.is_floating_point()) t.fill_(NAN);
    t.reset();
  }
}

std::vector<Tensor> Values::take_outputs() {
  std::vector<Tensor> outputs;
  std::set<int> roots_taken;
  for (const int id : graph_.outputs) {
    const Value& v = graph_.value(id);
    const Tensor& t = at(id);
    const bool is_whole =
        static_cast<int64_t>(t.numel() * t.element_size()) == static_cast<int64_t>(t.storage().nbytes());
    const bool is_own = roots_taken.insert(v.root).second && !graph_.storage_of(id).is_fixed && is_whole;
    outputs.push_back(is_own ? t : t.clone());
  }
  now_.clear();
  return outputs;
}

void run_node(const Graph& graph, int index, Values& values, const ReplayOptions& options) {
  const Node& node = graph.node(index);
  CallStack stack;
  push_arguments(node, stack, [&](int id) -> const Tensor& { return values.at(id); });
  node.op.callBoxed(stack);
  const std::vector<Tensor> results = tensors_of_results(stack, stack.size());
  KINORA_ASSERT(results.size() == node.results.size());
  for (size_t r = 0; r < results.size(); ++r) {
    const Tensor& twin = graph.value(node.results[r]).twin;
    if (options.mismatches && !has_layout_of(results[r], twin)) {
      options.mismatches->push_back(concat(node.name(), " ", results[r].scalar_type(), " ", results[r].sizes(),
                                           " strides ", results[r].strides(), ", its twin ", twin.scalar_type(), " ",
                                           twin.sizes(), " ", twin.strides()));
    }
    values.set(node.results[r], results[r]);
  }
}

std::vector<Tensor> replay(const Graph& graph, std::vector<Tensor> inputs, const ReplayOptions& options) {
  at::NoGradGuard no_grad;
  at::AutoDispatchBelowADInplaceOrView below;  // views would hold their base
  Values values(graph, std::move(inputs));
  inputs.clear();
  for (int i = 0; i < graph.size(); ++i) {
    run_node(graph, i, values, options);
    values.release_after(i, options.poisons);
  }
  return values.take_outputs();
}

}  // namespace kinora::graph
