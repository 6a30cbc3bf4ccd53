// Seam 2, the denoiser: what runs around a model call. Samplers see only this face; guidance, caches of whole calls and
// guidance parallel are decorators of it.
#pragma once

#include <ATen/ATen.h>

#include <span>
#include <vector>

#include "kinora/nn/run.h"

namespace kinora {

class Denoiser {
 public:
  virtual ~Denoiser() = default;
  /// The model's prediction for each wanted branch. latents [B, C, T, H, W], already scaled by the scheduler; one tensor of
  /// the same shape per branch, float32 or wider.
  virtual std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) = 0;
};

/// uncond + scale * (cond - uncond) (Ho & Salimans 2022); asks for cond only when scale is 1.
Tensor guided(Denoiser& denoiser, const Tensor& latents, const Step& step, double guidance_scale);

}  // namespace kinora
