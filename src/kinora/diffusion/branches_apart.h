// The branches of classifier-free guidance (Ho & Salimans 2022) one after the other.
#pragma once

#include "kinora/diffusion/denoiser.h"

namespace kinora {

/// Asks `inner`, which outlives this, for one branch at a time: half the activations of a call for both.
class BranchesApart final : public Denoiser {
 public:
  explicit BranchesApart(Denoiser& inner) : inner_(inner) {}
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override;

 private:
  Denoiser& inner_;
};

}  // namespace kinora
