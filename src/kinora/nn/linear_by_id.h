// Linear layers whose weight is not a tensor but a name: the source is asked for it when it is needed, in a captured
// graph at every replay and in backward a second time. Nothing in between holds the weight.
#pragma once

#include <map>
#include <mutex>

#include "kinora/nn/weights.h"

namespace kinora {

/// A weight source whose linear layers are one dispatcher operator with the parameter's id as its argument
/// (kinora::linear_by_id). It must outlive the graphs that captured it and the backward passes through it.
class SourceById : public WeightSource {
 public:
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) final;

  /// Whether linear layers of this parameter go by id; the others are plain products with get().
  virtual bool is_by_id(int32_t id) const = 0;
  /// x [..., in] -> [..., out], without gradients.
  virtual Tensor linear_now(const Tensor& x, int32_t id, const std::optional<Tensor>& bias) = 0;
  /// The whole weight, for backward.
  virtual Tensor weight_now(int32_t id) = 0;
  virtual int64_t out_features(int32_t id) const = 0;

  /// Gradients of weights that go by id, summed up over all backward passes. Thread-safe.
  void add_gradient(int32_t id, const Tensor& gradient);
  const std::map<int32_t, Tensor>& gradients() const { return gradients_; }

 private:
  std::mutex mutex_;
  std::map<int32_t, Tensor> gradients_;
  /// An input that requires a gradient, or layers before the first trainable parameter would record nothing.
  Tensor ticket_ = at::zeros({0}, at::TensorOptions().requires_grad(true));
};

}  // namespace kinora
