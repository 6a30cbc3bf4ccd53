// Rectified flow as Open-Sora 1.2 samples and trains it (Liu et al. 2023; Esser et al. 2024): a straight path from noise at
// t = 1000 to data at t = 0. The model predicts the velocity data - noise.
#pragma once

#include <vector>

#include "kinora/diffusion/scheduler.h"

namespace kinora {

/// Size of the clip in pixels; larger and longer clips spend more steps on noisy times.
struct RFlowShift {
  double height, width;
  int64_t num_frames;
  /// Open-Sora holds the sizes in the pipeline's dtype: in bfloat16 854 is 856, and the shift with it.
  at::ScalarType dtype = at::kFloat;
};

/// t' = 1000 r u / (1 + (r - 1) u), u = t / 1000, r = sqrt(height width / 512^2) sqrt(L), L latent frames of whole chunks of 17.
double shift_timestep(double timestep, const RFlowShift& shift);

/// The same with a ratio r that does not depend on the size: above 1 more steps are spent on noisy times (Esser et al. 2024,
/// section 5.3.2).
double shift_timestep(double timestep, double ratio);

class RFlow final : public Scheduler {
 public:
  /// `steps` times 1000 (1 - i / steps), shifted where a size is given. Throws UsageError below one step.
  explicit RFlow(int steps, const RFlowShift* shift = nullptr);
  RFlow(int steps, double ratio);
  std::span<const double> timesteps() const override { return timesteps_; }
  /// sample + velocity (t_i - t_i+1) / 1000, the last one down to 0.
  Tensor step(Trajectory& trajectory, const Tensor& velocity, const Tensor& sample,
              c10::function_ref<Tensor()> noise) const override;
  /// sample + velocity t / 1000: where the straight path from here ends.
  Tensor clean_estimate(const Tensor& velocity, const Tensor& sample, int call) const override;
  /// (1 - t / 1000) clean + t / 1000 noise.
  Tensor add_noise(const Tensor& clean, const Tensor& noise, const Tensor& timestep) const override;

 private:
  std::vector<double> timesteps_;
};

/// mean((velocity - (clean - noise))^2) for each sample: [B, C, T, H, W] -> [B]. frame_mask [B, T] bool or undefined: only
/// frames that are true count (the others were given clean). Throws UsageError when none of a sample does.
Tensor rflow_loss(const Tensor& velocity, const Tensor& clean, const Tensor& noise, const Tensor& frame_mask = {});

}  // namespace kinora
