// The sizes of the published Open-Sora 1.2 and plans of clips by it, for tests of estimates and fits.
#pragma once

#include "kinora/video/estimate.h"

namespace kinora::video {

/// The published model's, in bfloat16.
inline ModelSizes open_sora() {
  ModelSizes sizes;
  sizes.text_encoder.d_model = 4096;
  sizes.text_encoder.d_ff = 10240;
  sizes.text_encoder.num_heads = 64;
  sizes.transformer_bytes = uint64_t{1200} << 20;
  sizes.vae_bytes = uint64_t{400} << 20;
  sizes.text_bytes = uint64_t{4700} << 21;
  sizes.element_bytes = 2;
  return sizes;
}

inline Plan plan_of(int64_t frames, int64_t height, int64_t width, int64_t batch = 1) {
  Plan plan{};
  plan.num_frames = frames, plan.height = height, plan.width = width, plan.batch = batch, plan.guidance_scale = 7;
  plan.prompts.resize(static_cast<size_t>(batch));
  plan.keeps_clips = false;
  return plan;
}

}  // namespace kinora::video
