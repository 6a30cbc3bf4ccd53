// Many clips on one picture: for the README, for looking at a training run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::media {

struct SheetOptions {
  int64_t frames_per_clip = 6;  ///< evenly spaced from the first to the last frame; fewer when the clip has fewer
  int64_t clips_per_row = 1;
  int64_t scale = 1;  ///< whole-number enlargement of the pictures
  int64_t text_scale = 1;
  int64_t gap = 6;  ///< pixels between and around the clips
};

/// One picture with each clip as a strip of frames and, below it, its caption (captions: as many as clips, or none).
/// Throws UsageError when there is no clip, the clips' sizes differ, or the sheet would be over the limits of limits.h.
Frames contact_sheet(const std::vector<Frames>& clips, const std::vector<std::string>& captions = {},
                     const SheetOptions& options = {});

}  // namespace kinora::media
