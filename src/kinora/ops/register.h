// How an operator is registered with the dispatcher, in one declaration beside its reference:
//
//   Tensor reference(const Tensor& x, double eps);     // ATen calls; differentiable; any backend, any floating dtype
//   Tensor meta(const Tensor& x, double eps);          // an empty tensor of the result's shape and dtype
//   const Operator<&reference, &meta> op("kinora::name(Tensor x, float eps) -> Tensor");
//
// The backend kernels (CPU, CUDA) are the reference until a fused one is given as cpu or cuda; with gradients wanted
// the reference runs and autograd records its parts, so a fused forward needs no backward of its own. Capture sees one
// node. An operator that must not record its parts (it holds a slot, or talks to other ranks), or has a fused backward
// (fused_backward.h), gives `with_grad`: called instead of the reference where gradients are wanted, it applies a
// torch::autograd::Function whose forward calls the operator again below autograd. meta must tell the strides too:
// plans for memory follow what aliases what on meta tensors, and whether a later reshape is a view or a copy depends on
// strides.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <optional>
#include <string>

namespace kinora::ops {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

namespace detail {

template <typename T>
bool wants_grad(const T&) {
  return false;
}
inline bool wants_grad(const Tensor& t) { return t.defined() && t.requires_grad(); }
inline bool wants_grad(const MaybeTensor& t) { return t && wants_grad(*t); }
inline bool wants_grad(at::TensorList list) {
  for (const Tensor& t : list) {
    if (wants_grad(t)) return true;
  }
  return false;
}

}  // namespace detail

template <auto kReference, auto kMeta>
class Operator;

template <typename Result, typename... Args, Result (*kReference)(Args...), Result (*kMeta)(Args...)>
class Operator<kReference, kMeta> {
 public:
  using Function = Result(Args...);

  /// `schema` as the dispatcher writes it, with the namespace "kinora::".
  explicit Operator(const std::string& schema, Function* cpu = kReference, Function* cuda = kReference,
                    Function* with_grad = kReference)
      : library_(torch::Library::FRAGMENT, "kinora", std::nullopt, __FILE__, __LINE__) {
    with_grad_ = with_grad;
    const std::string name = schema.substr(0, schema.find('('));
    library_.def(schema.c_str());
    library_.impl(name.c_str(), c10::DispatchKey::CPU, cpu);
    library_.impl(name.c_str(), c10::DispatchKey::CUDA, cuda);
    library_.impl(name.c_str(), c10::DispatchKey::Meta, kMeta);
    library_.impl(name.c_str(), c10::DispatchKey::Autograd, &autograd);
    handle_.emplace(c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "").template typed<Function>());
  }

  Result operator()(Args... args) const { return handle_->call(args...); }

 private:
  static Result autograd(Args... args) {
    if (at::GradMode::is_enabled() && (detail::wants_grad(args) || ...)) return with_grad_(args...);
    at::AutoDispatchBelowADInplaceOrView below;
    return handle_->call(args...);
  }

  torch::Library library_;
  static inline std::optional<c10::TypedOperatorHandle<Function>> handle_;
  static inline Function* with_grad_ = kReference;
};

}  // namespace kinora::ops
