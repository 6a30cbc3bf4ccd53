// Guidance parallel: the branches of classifier-free guidance (Ho & Salimans 2022) on groups of ranks of their own.
#pragma once

#include "kinora/diffusion/denoiser.h"
#include "kinora/parallel/exchange.h"

namespace kinora::parallel {

/// Of two wanted branches rank r of `across` asks `inner` for the r-th, and both predictions are gathered, so that every
/// rank has them in the order in which they were wanted. A single branch is computed by every rank. Both outlive this.
class GuidanceParallel final : public Denoiser {
 public:
  static constexpr const char* kGather = "guidance gather";
  /// Throws UsageError for more than two ranks: guidance has two branches.
  GuidanceParallel(Denoiser& inner, Communicator& across);
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override;

 private:
  Denoiser& inner_;
  Communicator& across_;
};

}  // namespace kinora::parallel
