// Seam 4, weights: where a parameter comes from. A layer holds a `Param` and asks its source; resident tensors, files
// mapped into memory, streamed slots, shards and quantised kernels are sources, and no model knows which.
#pragma once

#include <ATen/ATen.h>

#include <span>
#include <vector>

#include "kinora/nn/module.h"

namespace kinora {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// The whole parameter, in the run's dtype. Its storage may belong to a slot: the storage's deleter gives the slot
  /// back, because autograd can hold the tensor long after the caller let go.
  virtual Tensor get(const Param& param) = 0;
  /// x [..., in], weight [out, in], bias [out] or null -> [..., out]. A source overrides it when it can do better than
  /// `get` both: tensor parallel parts, a low-precision kernel, or asking again in backward instead of holding a slot.
  /// Such an override is one dispatcher operator whose argument is the id, so that a captured graph asks the source
  /// anew in every replay. Its weight is no argument, so autograd sees no gradient for it: the source adds that up by
  /// id, and gives the operator some input that requires a gradient, or the first layers would record nothing.
  virtual Tensor linear(const Tensor& x, const Param& weight, const Param* bias);
  /// Parameters in the order in which they are about to be asked for; a streaming source reads ahead. A hint: sites
  /// that are reused and blocks that a policy leaves out never ask, so a source must be able to drop what it read in
  /// vain.
  virtual void expect(std::span<const int32_t> order) { static_cast<void>(order); }
};

/// Every parameter as a tensor in memory; what training optimises and what small models run from.
class ResidentWeights final : public WeightSource {
 public:
  explicit ResidentWeights(std::vector<Tensor> by_id) : tensors_(std::move(by_id)) {}
  Tensor get(const Param& param) override;
  std::vector<Tensor>& tensors() { return tensors_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }

 private:
  std::vector<Tensor> tensors_;
};

/// First values of every parameter by its `Init`, seeded; float32 on the CPU, then `dtype` on `device`.
ResidentWeights init_weights(const Params& params, uint64_t seed, at::ScalarType dtype = at::kFloat,
                             at::Device device = at::kCPU);

}  // namespace kinora
