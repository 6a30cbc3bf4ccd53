// What a picture or a clip may be at most. Readers check before anything is allocated, as a file's header is not to be
// trusted. Writers that stream take clips of any length; a GIF is made whole, so that it has a reader's limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kinora/base/error.h"

namespace kinora::media {

inline constexpr int64_t kMaxSide = 8192;
inline constexpr int64_t kMaxPixels = 33'000'000;
inline constexpr int64_t kMaxFrames = 1024;
inline constexpr int64_t kMaxClipBytes = int64_t{1} << 30;  ///< decoded, 3 bytes a pixel
inline constexpr size_t kMaxMetadataBytes = size_t{2} << 20;

/// Throws Failure (DataError for a file, UsageError for a caller's frames) when the picture is empty or over a limit.
template <typename Failure>
void check_picture_size(std::string_view what, int64_t height, int64_t width) {
  if (height < 1 || width < 1) throw Failure(concat(what, ": ", width, "x", height, " is no picture"));
  if (height > kMaxSide || width > kMaxSide || height * width > kMaxPixels) {
    throw Failure(concat(what, ": a picture of ", width, "x", height, " is too large"),
                  concat("sides go to ", kMaxSide, ", pixels to ", kMaxPixels));
  }
}

/// The same for a clip: its pictures, their number and all of their pixels.
template <typename Failure>
void check_clip_size(std::string_view what, int64_t frames, int64_t height, int64_t width) {
  check_picture_size<Failure>(what, height, width);
  if (frames < 1) throw Failure(concat(what, ": ", frames, " frames are no clip"));
  if (frames > kMaxFrames || frames > kMaxClipBytes / (3 * height * width)) {
    throw Failure(concat(what, ": ", frames, " frames of ", width, "x", height, " are too many"),
                  concat("a clip has at most ", kMaxFrames, " frames and ", kMaxClipBytes >> 20, " MiB of pixels"));
  }
}

}  // namespace kinora::media
