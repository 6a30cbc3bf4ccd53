// A clip as plain 8-bit RGB pictures: what decoders end with, what files, metrics and judges start from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kinora/base/error.h"

namespace kinora::media {

/// Pictures [F, H, W, 3], row-major, 8-bit sRGB; fps is the rate at which they are shown.
struct Frames {
  int64_t frames = 0;
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> rgb;
  double fps = 24.0;

  int64_t frame_bytes() const { return height * width * 3; }
  uint8_t* frame(int64_t index) { return rgb.data() + index * frame_bytes(); }
  const uint8_t* frame(int64_t index) const { return rgb.data() + index * frame_bytes(); }
};

/// Throws UsageError unless each size is in 1 .. 65536 and 0 < fps <= 1000.
inline void check_sizes(int64_t frames, int64_t height, int64_t width, double fps) {
  constexpr int64_t kMost = 65536;  // keeps the product of the sizes within int64_t
  for (const int64_t size : {frames, height, width}) {
    if (size < 1 || size > kMost) {
      throw UsageError(concat("a clip of ", frames, " frames of ", width, "x", height, " pixels cannot be"),
                       concat("Frames, height and width must be 1 to ", kMost, "."));
    }
  }
  if (!(fps > 0.0 && fps <= 1000.0)) {
    throw UsageError(concat("a rate of ", fps, " frames per second cannot be shown"),
                     "Choose more than 0 and at most 1000.");
  }
}

/// Throws UsageError as check_sizes() does, or when the buffer does not hold frames * height * width * 3 bytes.
inline void check(const Frames& clip) {
  check_sizes(clip.frames, clip.height, clip.width, clip.fps);
  if (clip.rgb.size() != static_cast<size_t>(clip.frames * clip.frame_bytes())) {
    throw UsageError(concat("a clip of ", clip.frames, " frames of ", clip.width, "x", clip.height, " needs ",
                            clip.frames * clip.frame_bytes(), " bytes of RGB but has ", clip.rgb.size()));
  }
}

/// A black clip; throws UsageError as check_sizes() does, before any memory is taken.
inline Frames make_frames(int64_t frames, int64_t height, int64_t width, double fps = 24.0) {
  check_sizes(frames, height, width, fps);
  return Frames{frames, height, width, std::vector<uint8_t>(static_cast<size_t>(frames * height * width * 3)), fps};
}

}  // namespace kinora::media
