// A model's weights while they are trained: what the model computes with (leaves of autograd, in the run's dtype), float32
// masters, a moving average, and the optimizer's state.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kinora/nn/weights.h"
#include "kinora/tensor/convert.h"

namespace kinora::train {

struct OptimizerOptions {
  double lr = 1e-3;  ///< AdamW's (Loshchilov & Hutter 2019)
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.0;
  double ema_decay = 0.998;  ///< of the averaged weights; warms up as (1 + step) / (10 + step)
  /// Rate of Muon (Jordan et al. 2024: momentum, made orthogonal by five Newton-Schulz steps) for the matrices that
  /// `use_muon` picks; its update is scaled by 0.2 sqrt(longest side) (Liu et al. 2025) to act as AdamW's would. 0: AdamW for all.
  double muon_lr = 0.0;
  double muon_momentum = 0.95;
  std::function<bool(const Param&)> use_muon;
};

class Trainable {
 public:
  /// `start` holds every parameter; parameters that are not trainable stay as they are.
  Trainable(const Params& params, const ResidentWeights& start, at::ScalarType run_dtype, at::Device device,
            OptimizerOptions options);

  /// From now on gradients are the mean over `parts` >= 1, each gathered by the leaves of its own; drops gradients.
  void set_parts(int64_t parts);
  /// A part's leaves: all share one storage, which the next step() writes in place.
  ResidentWeights& weights(int64_t part = 0) { return parts_[static_cast<size_t>(part)]; }
  /// The averaged weights in `dtype`.
  ResidentWeights averaged(at::ScalarType dtype) const;
  /// The averaged weights by name, for a checkpoint that others load.
  NamedTensors averaged_tensors(at::ScalarType dtype) const;

  /// Sum of squared gradients over all parameters, float32.
  double squared_grad_norm() const;
  /// One update with gradients times `grad_scale` and all rates times `lr_factor`; clears the gradients.
  void step(double lr_factor, double grad_scale);
  void clear_gradients();

  /// Everything that a resumed run needs, under `prefix`.
  NamedTensors state(const std::string& prefix) const;
  /// Throws DataError when a tensor is missing or misshapen.
  void load_state(const Checkpoint& checkpoint, const std::string& prefix);

 private:
  struct Slot {
    int32_t id;
    bool muon;
    Tensor master, ema, momentum, second;  // second: AdamW only
  };
  /// The mean over the parts, float32; undefined when no part has one.
  Tensor gradient(const Slot& slot) const;
  void step_adamw(double lr_factor, double grad_scale);
  void step_muon(Slot& slot, double lr_factor, double grad_scale);

  const Params* params_;
  OptimizerOptions options_;
  std::vector<ResidentWeights> parts_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

/// The matrix with all singular values moved close to 1 (five steps of a quintic Newton-Schulz iteration), computed in `compute_dtype`
/// (bfloat16 is enough for training). [m, n] -> [m, n].
Tensor orthogonalized(const Tensor& matrix, at::ScalarType compute_dtype = at::kFloat);

}  // namespace kinora::train
