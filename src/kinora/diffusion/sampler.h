// The denoising loop: latents of noise in, clean latents out.
#pragma once

#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "kinora/diffusion/denoiser.h"
#include "kinora/diffusion/scheduler.h"

namespace kinora {

struct SampleOptions {
  double guidance_scale = 7.0;
  /// One edit ratio per sample and latent frame [B * T], or empty. 1: denoise from noise as usual; 0: the given latent stays;
  /// between: the frame joins, noised, once the time is below ratio * 1000 (Open-Sora's mask strategy).
  std::vector<double> edit_ratio;
  /// Called after each model call with the number done and the latents then.
  std::function<void(int done, int calls, const Tensor& latents)> on_step;
  /// Called after every `estimate_every` model calls, before on_step, with what the clean latents seem to be.
  std::function<void(int done, int calls, const Tensor& clean)> on_estimate;
  int estimate_every = 0;
  std::stop_token cancel;
};

/// A run between two calls. With the state of whatever draws the noise it is all that a resume needs.
struct SampleState {
  Tensor latents;  ///< [B, C, T, H, W]
  Trajectory trajectory;
  std::vector<uint8_t> joined;  ///< [B * T] where frames have edit ratios: 1 once noised; empty before the first call
};

/// latents [B, C, T, H, W] scaled to scheduler.initial_sigma() -> the sample after the last call. `noise` draws standard normal
/// tensors of the latents' shape, one per call where the scheduler is stochastic or a frame has an edit ratio.
/// Throws CancelledError between calls.
Tensor sample(Denoiser& denoiser, const Scheduler& scheduler, Tensor latents, const SampleOptions& options,
              c10::function_ref<Tensor()> noise);
/// The same from a state on, which is kept up to date: on_step finds it as it is after the call. Throws UsageError, too,
/// for a state of another run.
void sample(Denoiser& denoiser, const Scheduler& scheduler, SampleState& state, const SampleOptions& options,
            c10::function_ref<Tensor()> noise);

}  // namespace kinora
