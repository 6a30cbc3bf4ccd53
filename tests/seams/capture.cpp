#include "seams/capture.h"

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <unordered_map>

#include "kinora/base/error.h"

namespace kinora::seams {
namespace {

constexpr auto kMode = c10::DispatchKey::TESTING_ONLY_GenericMode;
using torch::jit::Stack;

bool only_allocates(const std::string& name) {
  return name == "aten::empty" || name == "aten::empty_like" || name == "aten::new_empty" ||
         name == "aten::empty_strided" || name == "aten::new_empty_strided";
}

/// Shape rules for operators without a meta kernel in C++.
bool shape_rule(const std::string& name, Stack& stack) {
  if (name != "aten::where") return false;
  const Tensor other = torch::jit::pop(stack).toTensor(), self = torch::jit::pop(stack).toTensor(),
               condition = torch::jit::pop(stack).toTensor();
  stack.emplace_back(
      at::empty(at::infer_size(at::infer_size(condition.sizes(), self.sizes()), other.sizes()), self.options()));
  return true;
}

class Recorder {
 public:
  explicit Recorder(Graph& graph) : graph_(graph) {}

  int add_input(const Tensor& real, bool by_identity) {
    const int id = add_value(twin_of(real), {});
    symbolic_.insert(id);
    fixed_roots_.insert(graph_.values[static_cast<size_t>(id)].root);
    if (by_identity) ids_[real.unsafeGetTensorImpl()] = id;
    real_.push_back(real);
    return id;
  }
  const Tensor& twin(int id) const { return graph_.values[static_cast<size_t>(id)].twin; }
  int id_of(const Tensor& t) {
    const auto found = ids_.find(t.unsafeGetTensorImpl());
    return found != ids_.end() ? found->second : add_constant(t);
  }
  void check_read(int id) const {
    if (unwritten_.count(graph_.values[static_cast<size_t>(id)].root)) {
      throw std::logic_error("a value is read that no operator wrote: something writes behind the dispatcher");
    }
  }
  void record(const c10::OperatorHandle& op, Stack& stack);

  int in_weights = 0;  ///< inside a weight source, whose tensors are constants

 private:
  static Tensor twin_of(const Tensor& real) {
    return at::empty_strided(real.sizes(), real.strides(), real.options().device(at::kMeta).requires_grad(false));
  }

  int add_value(const Tensor& value_twin, const Tensor& constant) {
    const int id = static_cast<int>(graph_.values.size());
    const auto [root, is_new] = roots_.emplace(value_twin.storage().unsafeGetStorageImpl(), id);
    graph_.values.push_back({.twin = value_twin, .constant = constant, .root = root->second});
    ids_[value_twin.unsafeGetTensorImpl()] = id;
    return id;
  }
  int add_constant(const Tensor& t) {
    if (t.is_meta()) throw std::logic_error("a meta tensor from outside the capture");
    if (in_weights == 0 && !folded_.count(t.unsafeGetTensorImpl())) {
      throw std::logic_error(
          concat("a tensor ", t.sizes(), " that is neither a stream, nor conditioning, nor a weight"));
    }
    const int id = add_value(twin_of(t), t);
    fixed_roots_.insert(graph_.values[static_cast<size_t>(id)].root);
    ids_[t.unsafeGetTensorImpl()] = id;
    return id;
  }
  Argument argument_of(const c10::IValue& v) {
    if (v.isTensor())
      return v.toTensor().defined() ? Argument{Argument::Form::one, {}, {id_of(v.toTensor())}} : Argument{.plain = v};
    if (v.isTensorList()) {
      Argument a{.form = Argument::Form::list};
      for (const Tensor& t : v.toTensorVector()) a.ids.push_back(id_of(t));
      return a;
    }
    if (v.isOptionalTensorList()) {
      Argument a{.form = Argument::Form::optionals};
      for (const auto& t : v.toOptionalTensorVector()) a.ids.push_back(t ? id_of(*t) : -1);
      return a;
    }
    return {.plain = v};
  }
  bool is_symbolic(const c10::IValue& v) const {
    const auto known = [&](const Tensor& t) {
      const auto found = t.defined() ? ids_.find(t.unsafeGetTensorImpl()) : ids_.end();
      return found != ids_.end() && symbolic_.count(found->second) > 0;
    };
    if (v.isTensor()) return known(v.toTensor());
    bool any = v.isDevice() && v.toDevice().is_meta();  // a factory that was told a twin's device
    if (v.isTensorList()) {
      for (const Tensor& t : v.toTensorVector()) any = any || known(t);
    } else if (v.isOptionalTensorList()) {
      for (const auto& t : v.toOptionalTensorVector()) any = any || (t && known(*t));
    }
    return any;
  }
  c10::IValue twin_argument(const Argument& a) const {
    switch (a.form) {
      case Argument::Form::one: return twin(a.ids[0]);
      case Argument::Form::list: {
        c10::List<Tensor> list;
        for (const int id : a.ids) list.push_back(twin(id));
        return list;
      }
      case Argument::Form::optionals: {
        c10::List<std::optional<Tensor>> list;
        for (const int id : a.ids) list.push_back(id < 0 ? std::nullopt : std::optional<Tensor>(twin(id)));
        return list;
      }
      case Argument::Form::plain: break;
    }
    return a.plain.isDevice() ? c10::IValue(c10::Device(at::kMeta)) : a.plain;
  }
  static std::vector<Tensor> results_of(const Stack& stack, size_t returns) {
    std::vector<Tensor> out;
    for (size_t i = stack.size() - returns; i < stack.size(); ++i) {
      if (stack[i].isTensor()) out.push_back(stack[i].toTensor());
      if (stack[i].isTensorList()) {
        for (const Tensor& t : stack[i].toTensorVector()) out.push_back(t);
      }
    }
    return out;
  }

  Graph& graph_;
  std::unordered_map<const c10::TensorImpl*, int> ids_;
  std::unordered_map<const c10::StorageImpl*, int> roots_;
  std::set<int> symbolic_, fixed_roots_, unwritten_;
  std::set<const c10::TensorImpl*> folded_;
  std::vector<Tensor> real_;  // alive, so that no address comes twice
};

void Recorder::record(const c10::OperatorHandle& op, Stack& stack) {
  const auto& schema = op.schema();
  const size_t n = schema.arguments().size(), first = stack.size() - n;
  bool any_symbolic = false;
  for (size_t i = first; i < stack.size(); ++i) any_symbolic = any_symbolic || is_symbolic(stack[i]);
  if (!any_symbolic) {  // constants alone: what comes out is a constant
    for (size_t i = first; i < stack.size(); ++i) {
      if (!stack[i].isTensor() || !stack[i].toTensor().defined()) continue;
      const Tensor& t = stack[i].toTensor();
      real_.push_back(t);
      const int id = id_of(t);
      if (schema.arguments()[i - first].alias_info() && schema.arguments()[i - first].alias_info()->isWrite() &&
          in_weights == 0 && !folded_.count(graph_.values[static_cast<size_t>(id)].constant.unsafeGetTensorImpl())) {
        throw std::logic_error("a captured block writes into a constant");
      }
    }
    op.callBoxed(stack);
    for (const Tensor& t : results_of(stack, schema.returns().size())) {
      folded_.insert(t.unsafeGetTensorImpl());
      real_.push_back(t);
    }
    return;
  }
  Node node{.op = op, .arguments = {}, .results = {}, .last_of_roots = {}};
  std::vector<std::pair<int, bool>> read;  // id, is written
  for (size_t i = 0; i < n; ++i) {
    node.arguments.push_back(argument_of(stack[first + i]));
    const auto* alias = schema.arguments()[i].alias_info();
    for (const int id : node.arguments.back().ids) {
      if (id >= 0) read.emplace_back(id, alias && alias->isWrite());
    }
    stack[first + i] = twin_argument(node.arguments.back());
    // Factories inside a block name the twins' device: replay must make real tensors.
    Argument& a = node.arguments.back();
    if (a.form == Argument::Form::plain && a.plain.isDevice() && a.plain.toDevice().is_meta())
      a.plain = c10::IValue(c10::Device(at::kCPU));
  }
  if (!shape_rule(schema.name(), stack)) op.callBoxed(stack);
  std::set<int> result_roots;
  for (const Tensor& t : results_of(stack, schema.returns().size())) {
    const auto found = ids_.find(t.unsafeGetTensorImpl());
    const int id = found != ids_.end() ? found->second : add_value(t, {});
    symbolic_.insert(id);
    result_roots.insert(graph_.values[static_cast<size_t>(id)].root);
    if (only_allocates(schema.name())) unwritten_.insert(id);
    node.results.push_back(id);
  }
  for (const auto& [id, is_written] : read) {
    const int root = graph_.values[static_cast<size_t>(id)].root;
    if (is_written) {
      if (fixed_roots_.count(root)) throw std::logic_error("a captured block writes into an input");
      unwritten_.erase(root);
    } else if (!result_roots.count(root) && !only_allocates(schema.name())) {
      check_read(id);  // a view reads nothing
    }
  }
  graph_.nodes.push_back(std::move(node));
}

thread_local Recorder* active = nullptr;  // the fallback is a plain function: the capture on this thread

void record_call(const c10::OperatorHandle& op, Stack* stack) {
  c10::impl::ExcludeDispatchKeyGuard off(kMode);
  active->record(op, *stack);
}

/// Notes that what a source hands out is a weight.
class NotedWeights : public WeightSource {
 public:
  NotedWeights(WeightSource& inner, Recorder& recorder) : inner_(inner), recorder_(recorder) {}
  Tensor get(const Param& param) override {
    const Inside inside(recorder_);
    Tensor value = inner_.get(param);
    c10::impl::ExcludeDispatchKeyGuard off(kMode);
    recorder_.id_of(value);
    return value;
  }
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override {
    const Inside inside(recorder_);
    return inner_.linear(x, weight, bias);
  }

 private:
  struct Inside {
    explicit Inside(Recorder& r) : recorder(r) { ++recorder.in_weights; }
    ~Inside() { --recorder.in_weights; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    Recorder& recorder;
  };
  WeightSource& inner_;
  Recorder& recorder_;
};

/// Where each storage is needed last; outputs, inputs and constants never die.
void find_last_uses(Graph& graph) {
  std::set<int> lasting;
  for (size_t i = 0; i < std::min(graph.lasting, graph.outputs.size()); ++i) {
    lasting.insert(graph.values[static_cast<size_t>(graph.outputs[i])].root);
  }
  for (const int id : graph.inputs) lasting.insert(id);
  for (const Value& v : graph.values) {
    if (v.constant.defined()) lasting.insert(v.root);
  }
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const auto use = [&](int id) {
      if (id < 0) return;
      const int root = graph.values[static_cast<size_t>(id)].root;
      if (lasting.insert(root).second) node->last_of_roots.push_back(root);
    };
    for (const int id : node->results) use(id);
    for (const Argument& a : node->arguments) {
      for (const int id : a.ids) use(id);
    }
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&record_call>());
}

Graph capture(const std::vector<Tensor>& inputs, const std::vector<Tensor>& conditioning, WeightSource* weights,
              const std::function<std::vector<Tensor>(const std::vector<Tensor>&, WeightSource*)>& f, size_t lasting) {
  at::NoGradGuard no_grad;
  Graph graph;
  graph.lasting = lasting;
  Recorder recorder(graph);
  std::vector<Tensor> twins;
  for (const Tensor& t : inputs) {
    graph.inputs.push_back(recorder.add_input(t, false));
    twins.push_back(recorder.twin(graph.inputs.back()));
  }
  for (const Tensor& t : conditioning) graph.inputs.push_back(t.defined() ? recorder.add_input(t, true) : -1);
  struct Active {
    explicit Active(Recorder* r) { active = r; }
    ~Active() { active = nullptr; }
    c10::impl::IncludeDispatchKeyGuard on{kMode};
  };
  std::vector<Tensor> outputs;
  std::optional<NotedWeights> noted;
  if (weights) noted.emplace(*weights, recorder);
  {
    const Active on(&recorder);
    outputs = f(twins, noted ? &*noted : nullptr);
  }
  for (const Tensor& t : outputs) {
    graph.outputs.push_back(recorder.id_of(t));
    recorder.check_read(graph.outputs.back());
  }
  find_last_uses(graph);
  return graph;
}

std::vector<Tensor> replay(const Graph& graph, const std::vector<Tensor>& inputs,
                           std::vector<std::string>* mismatches) {
  at::NoGradGuard no_grad;
  std::vector<Tensor> now(graph.values.size());
  for (size_t i = 0; i < graph.values.size(); ++i) now[i] = graph.values[i].constant;
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    if (graph.inputs[i] >= 0) now[static_cast<size_t>(graph.inputs[i])] = inputs.at(i);
  }
  const auto at_id = [&](int id) -> const Tensor& { return now[static_cast<size_t>(id)]; };
  for (const Node& node : graph.nodes) {
    Stack stack;
    for (const Argument& a : node.arguments) {
      if (a.form == Argument::Form::plain) stack.push_back(a.plain);
      if (a.form == Argument::Form::one) stack.emplace_back(at_id(a.ids[0]));
      if (a.form == Argument::Form::list) {
        c10::List<Tensor> list;
        for (const int id : a.ids) list.push_back(at_id(id));
        stack.emplace_back(std::move(list));
      }
      if (a.form == Argument::Form::optionals) {
        c10::List<std::optional<Tensor>> list;
        for (const int id : a.ids) list.push_back(id < 0 ? std::nullopt : std::optional<Tensor>(at_id(id)));
        stack.emplace_back(std::move(list));
      }
    }
    node.op.callBoxed(stack);
    size_t r = 0;
    const auto store = [&](const Tensor& t) {
      const auto id = static_cast<size_t>(node.results[r++]);
      const Tensor& twin = graph.values[id].twin;
      if (mismatches &&
          (t.sizes() != twin.sizes() || t.strides() != twin.strides() || t.scalar_type() != twin.scalar_type())) {
        mismatches->push_back(
            concat(node.op.schema().name(), " ", t.sizes(), " strides ", t.strides(), ", its twin ", twin.strides()));
      }
      now[id] = t;
    };
    for (const c10::IValue& v : stack) {
      if (v.isTensor()) store(v.toTensor());
      if (v.isTensorList()) {
        for (const Tensor& t : v.toTensorVector()) store(t);
      }
    }
    for (const int root : node.last_of_roots) {
      if (at_id(root).is_floating_point()) at_id(root).fill_(NAN);
    }
  }
  std::vector<Tensor> outputs;
  std::set<int> roots_taken(graph.inputs.begin(), graph.inputs.end());
  for (const int id : graph.outputs) {
    const Value& v = graph.values[static_cast<size_t>(id)];
    const bool shares =
        !roots_taken.insert(v.root).second || graph.values[static_cast<size_t>(v.root)].constant.defined() ||
        at_id(id).numel() * at_id(id).element_size() != static_cast<int64_t>(at_id(id).storage().nbytes());
    outputs.push_back(shares ? at_id(id).clone() : at_id(id));
  }
  return outputs;
}

}  // namespace kinora::seams
