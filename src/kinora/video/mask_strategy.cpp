#include "kinora/video/mask_strategy.h"

#include <algorithm>

#include "kinora/base/error.h"

namespace kinora::video {
namespace {

/// Negative starts count from the end; aligned starts fall on the autoencoder's chunks.
int64_t start_of(int64_t start, int64_t frames, std::optional<int64_t> align, const char* what) {
  if (start < 0) start += frames;
  if (align && start >= 0) start = text::find_nearest_point(start, *align, frames);
  if (start < 0 || start >= frames) {
    throw UsageError(
        concat("a mask strategy starts at frame ", start, " of a ", what, " of ", frames, " latent frames"));
  }
  return start;
}

}  // namespace

std::vector<double> apply_mask_strategy(at::Tensor& latents, const std::vector<std::vector<at::Tensor>>& references,
                                        const std::vector<std::vector<text::MaskGroup>>& strategies, int64_t loop,
                                        std::optional<int64_t> align) {
  const int64_t batch = latents.size(0), frames = latents.size(2);
  std::vector<double> ratios(static_cast<size_t>(batch * frames), 1.0);
  for (int64_t b = 0; b < std::min<int64_t>(batch, static_cast<int64_t>(strategies.size())); ++b) {
    for (const text::MaskGroup& group : strategies[b]) {
      if (group.loop != loop) continue;
      const bool is_there = b < static_cast<int64_t>(references.size()) && group.reference >= 0 &&
                            group.reference < static_cast<int64_t>(references[b].size());
      if (!is_there)
        throw UsageError(concat("a mask strategy names reference ", group.reference, ", which is not there"));
      const at::Tensor& clip = references[b][group.reference];  // [C, T, h, w]
      const bool fits = clip.dim() == 4 && clip.size(0) == latents.size(1) && clip.size(2) == latents.size(3) &&
                        clip.size(3) == latents.size(4);
      if (!fits) {
        throw UsageError(concat("the reference of a mask strategy has latents of ", clip.sizes(), ", the clip of ",
                                latents[b].sizes()),
                         "bring the reference to the clip's height and width");
      }
      const int64_t from = start_of(group.reference_start, clip.size(1), align, "reference");
      const int64_t to = start_of(group.target_start, frames, align, "clip");
      const int64_t length = std::min({group.length, frames - to, clip.size(1) - from});
      if (length < 1) continue;
      latents[b].narrow(1, to, length).copy_(clip.narrow(1, from, length));
      std::fill_n(ratios.begin() + b * frames + to, length, group.edit_ratio);
    }
  }
  return ratios;
}

}  // namespace kinora::video
