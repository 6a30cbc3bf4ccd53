#include "kinora/graph/recorder.h"

#include <stdexcept>

#include "kinora/base/error.h"
#include "kinora/graph/shape_rules.h"

namespace kinora::graph {
namespace {

bool only_allocates(const std::string& name) {
  return name == "aten::empty" || name == "aten::empty_like" || name == "aten::new_empty" ||
         name == "aten::empty_strided" || name == "aten::new_empty_strided";
}

bool is_written(const c10::Argument& a) { return a.alias_info() && a.alias_info()->isWrite(); }

Tensor twin_of(const Tensor& real) {
  return at::empty_strided(real.sizes(), real.strides(), real.options().device(at::kMeta).requires_grad(false));
}

}  // namespace

std::vector<Tensor> tensors_of_results(const CallStack& stack, size_t returns) {
  std::vector<Tensor> out;
  for (size_t i = stack.size() - returns; i < stack.size(); ++i) {
    if (stack[i].isTensor()) out.push_back(stack[i].toTensor());
    if (stack[i].isTensorList()) {
      for (const Tensor& t : stack[i].toTensorVector()) out.push_back(t);
    }
  }
  return out;
}

int Recorder::add_input(const Tensor& real, bool by_identity) {
  const int id = add_value(twin_of(real), {});
  symbolic_.insert(id);
  fixed_roots_.insert(root(id));
  if (by_identity) ids_[real.unsafeGetTensorImpl()] = id;
  real_.push_back(real);
  return id;
}

int Recorder::id_of(const Tensor& t) {
  const auto found = ids_.find(t.unsafeGetTensorImpl());
  return found != ids_.end() ? found->second : add_constant(t);
}

void Recorder::check_read(int id) const {
  if (unwritten_.count(root(id))) {
    throw std::logic_error("a value is read that no operator wrote: something writes behind the dispatcher");
  }
}

int Recorder::add_value(const Tensor& value_twin, const Tensor& constant) {
  const int id = static_cast<int>(graph_.values.size());
  const auto [found, is_new] = roots_.emplace(value_twin.storage().unsafeGetStorageImpl(), id);
  graph_.values.push_back({.twin = value_twin, .constant = constant, .root = found->second});
  ids_[value_twin.unsafeGetTensorImpl()] = id;
  return id;
}

int Recorder::add_constant(const Tensor& t) {
  if (t.is_meta() && constants_allowed == 0 && !folded_.count(t.unsafeGetTensorImpl()))
    throw std::logic_error("a meta tensor from outside the capture");
  if (constants_allowed == 0 && !folded_.count(t.unsafeGetTensorImpl())) {
    throw std::logic_error(concat("a tensor ", t.sizes(), " that is neither an input, nor conditioning, nor a weight"));
  }
  const int id = add_value(twin_of(t), t);
  fixed_roots_.insert(root(id));
  ids_[t.unsafeGetTensorImpl()] = id;
  return id;
}

Argument Recorder::argument_of(const c10::IValue& v) {
  using Form = Argument::Form;
  if (v.isTensor()) {
    if (!v.toTensor().defined()) return {.plain = v};
    return {.form = Form::one, .ids = {id_of(v.toTensor())}};
  }
  if (v.isTensorList()) {
    Argument a{.form = Form::list};
    for (const Tensor& t : v.toTensorVector()) a.ids.push_back(id_of(t));
    return a;
  }
  if (v.isOptionalTensorList()) {
    Argument a{.form = Form::optionals};
    for (const auto& t : v.toOptionalTensorVector()) a.ids.push_back(t && t->defined() ? id_of(*t) : -1);
    return a;
  }
  return {.plain = v};
}

c10::IValue Recorder::twin_argument(const Argument& a) const {
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

bool Recorder::is_known_symbolic(const Tensor& t) const {
  const auto found = t.defined() ? ids_.find(t.unsafeGetTensorImpl()) : ids_.end();
  return found != ids_.end() && symbolic_.count(found->second) > 0;
}

bool Recorder::is_symbolic(const c10::IValue& v) const {
  if (v.isTensor()) return is_known_symbolic(v.toTensor());
  if (v.isDevice()) return v.toDevice().is_meta();  // a factory that was told a twin's device
  bool any = false;
  if (v.isTensorList()) {
    for (const Tensor& t : v.toTensorVector()) any = any || is_known_symbolic(t);
  } else if (v.isOptionalTensorList()) {
    for (const auto& t : v.toOptionalTensorVector()) any = any || (t && is_known_symbolic(*t));
  }
  return any;
}

void Recorder::fold(const c10::OperatorHandle& op, CallStack& stack) {
  const auto& arguments = op.schema().arguments();
  const size_t first = stack.size() - arguments.size();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::IValue& v = stack[first + i];
    std::vector<Tensor> tensors;
    if (v.isTensor() && v.toTensor().defined()) tensors.push_back(v.toTensor());
    if (v.isTensorList()) tensors = v.toTensorVector();
    for (const Tensor& t : tensors) {
      real_.push_back(t);
      id_of(t);  // throws where it may be no constant
      if (is_written(arguments[i]) && constants_allowed == 0 && !folded_.count(t.unsafeGetTensorImpl())) {
        throw std::logic_error("a captured function writes into a constant");
      }
    }
  }
  op.callBoxed(stack);
  for (const Tensor& t : tensors_of_results(stack, op.schema().returns().size())) {
    folded_.insert(t.unsafeGetTensorImpl());
    real_.push_back(t);
  }
}

void Recorder::note_results(const c10::OperatorHandle& op, const CallStack& stack, Node& node) {
  std::set<const c10::TensorImpl*> written;
  for (const int id : node.writes) written.insert(twin(id).unsafeGetTensorImpl());
  const bool allocates = only_allocates(op.schema().name());
  for (const Tensor& t : tensors_of_results(stack, op.schema().returns().size())) {
    const auto found = ids_.find(t.unsafeGetTensorImpl());
    // What is written over is a new value; what is handed through (to, dropout) is the value that it was.
    const bool is_new = found == ids_.end() || written.count(t.unsafeGetTensorImpl());
    const int id = is_new ? add_value(t, {}) : found->second;
    symbolic_.insert(id);
    if (allocates) unwritten_.insert(root(id));
    node.results.push_back(id);
  }
}

void Recorder::check_uses(const Node& node, bool allocates) {
  std::set<int> result_roots;
  for (const int id : node.results) result_roots.insert(root(id));
  const std::set<int> written(node.writes.begin(), node.writes.end());
  for (const int id : written) {
    if (fixed_roots_.count(root(id))) throw std::logic_error("a captured function writes into an input or a constant");
    unwritten_.erase(root(id));
  }
  for (const int id : node.reads) {
    // A view reads nothing.
    if (id >= 0 && !written.count(id) && !result_roots.count(root(id)) && !allocates) check_read(id);
  }
}

void Recorder::record(const c10::OperatorHandle& op, CallStack& stack) {
  const auto& schema = op.schema();
  const size_t n = schema.arguments().size(), first = stack.size() - n;
  bool any_symbolic = false;
  for (size_t i = first; i < stack.size(); ++i) any_symbolic = any_symbolic || is_symbolic(stack[i]);
  if (!any_symbolic) return fold(op, stack);
  Node node{.op = op};
  for (size_t i = 0; i < n; ++i) {
    node.arguments.push_back(argument_of(stack[first + i]));
    Argument& a = node.arguments.back();
    stack[first + i] = twin_argument(a);
    if (is_written(schema.arguments()[i])) node.writes.insert(node.writes.end(), a.ids.begin(), a.ids.end());
    // Factories inside a function name the twins' device: replay must make real tensors.
    if (a.form == Argument::Form::plain && a.plain.isDevice() && a.plain.toDevice().is_meta())
      a.plain = c10::IValue(device);
  }
  if (const ShapeRule* rule = find_shape_rule(schema)) {
    apply(*rule, stack, n);
  } else {
    op.callBoxed(stack);
  }
  for (const Argument& a : node.arguments) node.reads.insert(node.reads.end(), a.ids.begin(), a.ids.end());
  const auto known = graph_.values.size();
  note_results(op, stack, node);
  check_uses(node, only_allocates(schema.name()));
  // Handed through (to the dtype that it has, dropout when not training): no node.
  const bool is_new = !node.writes.empty() || node.results.empty() || graph_.values.size() > known;
  if (is_new) graph_.nodes.push_back(std::move(node));
}

}  // namespace kinora::graph
