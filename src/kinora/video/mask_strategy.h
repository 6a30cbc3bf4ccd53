// What a mask strategy (text/prompt.h) does to latents before they are denoised.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "kinora/text/prompt.h"

namespace kinora::video {

/// Puts frames of reference clips into `latents` [B, C, T, H, W], in place, and gives each frame its edit ratio [B * T]: 1 where
/// nothing is given. references[b]: latents [C, T', H, W] of sample b's clips. Only groups of `loop` count. Starts are moved to
/// multiples of `align`. Throws UsageError for a reference or a start that is not there.
std::vector<double> apply_mask_strategy(at::Tensor& latents, const std::vector<std::vector<at::Tensor>>& references,
                                        const std::vector<std::vector<text::MaskGroup>>& strategies, int64_t loop,
                                        std::optional<int64_t> align);

}  // namespace kinora::video
