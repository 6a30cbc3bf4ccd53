// What samplers share. A scheduler is made for one request (steps, shift, sizes) and never changes after that; what a
// multi-step method remembers is a value, `Trajectory`, that can be saved, resumed and compared.
#pragma once

#include <ATen/ATen.h>

#include <c10/util/FunctionRef.h>

#include <map>
#include <span>
#include <string>
#include <vector>

namespace kinora {

using at::Tensor;

struct Trajectory {
  int call = 0;                 ///< model calls done
  std::vector<Tensor> history;  ///< what the method keeps between calls
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;
  /// One per model call (PNDM: n + 9 for n steps), in the model's units (0 .. 1000).
  virtual std::span<const double> timesteps() const = 0;
  /// Whether `step` draws noise.
  virtual bool is_stochastic() const { return false; }
  /// Standard deviation of the first sample.
  virtual double initial_sigma() const { return 1.0; }
  /// What the model receives in place of the sample.
  virtual Tensor scale_input(const Tensor& sample, int call) const {
    static_cast<void>(call);
    return sample;
  }
  /// The next sample; advances the trajectory. noise() draws a standard normal tensor of the sample's shape.
  virtual Tensor step(Trajectory& trajectory, const Tensor& prediction, const Tensor& sample,
                      c10::function_ref<Tensor()> noise) const = 0;
  /// What the method takes the clean sample to be, given the prediction at `call`: for previews. The sample itself where
  /// a method does not say.
  virtual Tensor clean_estimate(const Tensor& prediction, const Tensor& sample, int call) const {
    static_cast<void>(prediction), static_cast<void>(call);
    return sample;
  }
  /// The clean sample brought to `timestep` (one per batch entry, [B], or one for all, []).
  virtual Tensor add_noise(const Tensor& clean, const Tensor& noise, const Tensor& timestep) const = 0;
  /// The method's own numbers by their names in the field: "sigmas" (one more than timesteps), "alphas_cumprod". For parity and plots.
  virtual std::map<std::string, std::vector<double>> tables() const { return {}; }
};

}  // namespace kinora
