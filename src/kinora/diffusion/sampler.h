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
  std::stop_token cancel;
};

/// latents [B, C, T, H, W] scaled to scheduler.initial_sigma() -> the sample after the last call. `noise` draws standard normal
/// tensors of the latents' shape, one per call where the scheduler is stochastic or a frame has an edit ratio.
/// Throws CancelledError between calls.
Tensor sample(Denoiser& denoiser, const Scheduler& scheduler, Tensor latents, const SampleOptions& options,
              c10::function_ref<Tensor()> noise);

}  // namespace kinora
