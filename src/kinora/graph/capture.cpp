#include "kinora/graph/capture.h"

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <mutex>
#include <stdexcept>

#include "kinora/base/error.h"
#include "kinora/graph/recorder.h"

namespace kinora::graph {
namespace {

constexpr auto kMode = c10::DispatchKey::TESTING_ONLY_GenericMode;

thread_local Recorder* active = nullptr;  // the fallback is a plain function: the capture on this thread

void record_call(const c10::OperatorHandle& op, CallStack* stack) {
  c10::impl::ExcludeDispatchKeyGuard off(kMode);
  if (active == nullptr) throw std::logic_error("a call was routed to capture though none lives on this thread");
  active->record(op, *stack);
}

/// Captures on this thread while it lives; restores what was before.
struct Active {
  explicit Active(Recorder* r) : before(active) { active = r; }
  ~Active() { active = before; }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  Recorder* before;
  c10::impl::IncludeDispatchKeyGuard on{kMode};
};

Graph capture_unchecked(const CaptureInputs& in,
                        const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f) {
  at::NoGradGuard no_grad;
  Graph graph;
  Recorder recorder(graph);
  std::vector<Tensor> twins, outputs;
  if (!in.inputs.empty()) recorder.device = in.inputs[0].device();
  for (const Tensor& t : in.inputs) {
    graph.inputs.push_back(recorder.add_input(t, false));
    twins.push_back(graph.value(graph.inputs.back()).twin);
  }
  for (const Tensor& t : in.conditioning) graph.inputs.push_back(t.defined() ? recorder.add_input(t, true) : -1);
  {
    const Active on(&recorder);
    outputs = f(twins);
  }
  for (const Tensor& t : outputs) {
    graph.outputs.push_back(recorder.id_of(t));
    recorder.check_read(graph.outputs.back());
  }
  graph.given = in.given, graph.counted = in.counted;
  finish(graph);
  return graph;
}

}  // namespace

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&record_call>());
}

Graph capture(const CaptureInputs& in, const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f) {
  static std::once_flag checked;
  std::call_once(checked, check_dispatch_key);
  return capture_unchecked(in, f);
}

ConstantsAllowed::ConstantsAllowed() {
  if (active) ++active->constants_allowed;
}
ConstantsAllowed::~ConstantsAllowed() {
  if (active) --active->constants_allowed;
}

void note_constant(const Tensor& t) {
  if (!active || !t.defined()) return;
  const ConstantsAllowed allowed;
  c10::impl::ExcludeDispatchKeyGuard off(kMode);
  active->id_of(t);
}

void check_dispatch_key() {
  const Graph graph =
      capture_unchecked({{at::ones({2})}, {}}, [](const auto& in) -> std::vector<Tensor> { return {in[0] + 1}; });
  if (graph.nodes.size() != 1 || graph.node(0).name() != "aten::add" || graph.outputs.size() != 1 ||
      graph.value(graph.outputs[0]).def != 0) {
    throw std::logic_error(
        concat("this LibTorch does not show x + 1 to a fallback on ", c10::toString(kMode),
               ": graphs (--chunk) cannot be captured; build Kinora against the version that it names"));
  }
}

}  // namespace kinora::graph
