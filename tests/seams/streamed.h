// Weights that pass through one slot: the linear layers of a model ask for theirs at the moment of use, forward and
// backward.
#pragma once

#include <atomic>
#include <map>
#include <vector>

#include "kinora/nn/weights.h"

namespace kinora::seams {

/// `linear` fetches the weight into the only slot, computes, and gives the slot back, which is then poisoned with
/// NaN. Backward asks again; gradients of streamed weights are added up here, by id. Other parameters stay resident.
class OneSlot : public WeightSource {
 public:
  explicit OneSlot(std::vector<Tensor> values);
  Tensor get(const Param& param) override;
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override;

  /// The weight in the slot, which comes back when the last holder of the tensor is gone. Throws std::logic_error
  /// while it is taken.
  Tensor fetch(int64_t id);
  void add_gradient(int64_t id, const Tensor& gradient);
  const std::vector<Tensor>& values() const { return values_; }

  std::map<int64_t, Tensor> gradients;  ///< of streamed weights
  std::map<int64_t, int> fetches;       ///< by id
  int fetched() const;
  /// Broken on purpose: autograd saves the slot itself, which is given back while it is still held.
  bool frees_by_scope = false;
  /// As above, but honest about it: the slot stays taken as long as autograd holds it.
  bool saves_slot = false;

 private:
  Tensor view_of_slot(int64_t id, bool owned);
  void poison();

  std::vector<Tensor> values_;
  Tensor slot_, ticket_;
  std::atomic<bool> is_taken_ = false;
};

}  // namespace kinora::seams
