// Between pictures and tensors.
#pragma once

#include <ATen/ATen.h>

#include "kinora/media/frames.h"

namespace kinora::media {

/// [3, F, H, W] float32 in -1 .. 1. Throws UsageError as check() does.
at::Tensor to_tensor(const Frames& clip);

/// pixels [3, F, H, W], any floating dtype and device, finite: clamped to -1 .. 1, then (x + 1) / 2 * 255 + 0.5 cut to
/// 8 bits, as Open-Sora does. Throws UsageError for another shape or a rate that cannot be.
Frames to_frames(const at::Tensor& pixels, double fps);

}  // namespace kinora::media
