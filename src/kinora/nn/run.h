// What one model call carries: the step, which rows of the batch are which guidance branch, and the live seams.
// It is passed down explicitly; a model keeps no state between calls.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <stop_token>
#include <string_view>
#include <vector>

#include "kinora/nn/layout.h"
#include "kinora/nn/weights.h"

namespace kinora {

class Policy;

/// Guidance branch of a row group of the batch.
enum class Branch : uint8_t { uncond, cond };

/// Where in the denoising a model call stands; host values only. Calls, not steps: PNDM makes n + 9 calls for n steps.
struct Step {
  int call = 0;  ///< shared by the guidance branches of a step, be they rows of one model call or calls of their own
  int calls = 1;
  double timestep = 0;               ///< what the model receives
  std::span<const double> schedule;  ///< the timestep of each call
  /// [B * T] of 0 and 1: latent frames that are being denoised, the others are given; empty: all.
  std::span<const uint8_t> active_frames = {};
};

struct Run {
  WeightSource* weights = nullptr;         ///< never null when a model runs
  Policy* policy = nullptr;                ///< null: compute everything
  const Layout* layout = &whole_layout();  ///< one process unless set
  Step step;
  std::span<const Branch> rows;  ///< equal row groups of the batch, in order; empty: one group, cond
  std::stop_token cancel;
};

}  // namespace kinora
