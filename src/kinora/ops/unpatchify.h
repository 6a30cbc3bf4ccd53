// From rows of patches back to pixels of a latent. B batch, T x S patches, C channels.
#pragma once

#include <ATen/ATen.h>

namespace kinora::ops {

using at::Tensor;

/// The way back from patchify: rows [B, T, S, pt ph pw C], of which each holds a patch with its channels last, rows of a frame line by
/// line -> [B, C, frames, height, width], contiguous. patch {pt, ph, pw}, size {frames, height, width}; what the patches reach beyond
/// the size is cut. Throws UsageError when rows, patch and size do not fit each other.
Tensor unpatchify(const Tensor& rows, at::IntArrayRef patch, at::IntArrayRef size);

}  // namespace kinora::ops
