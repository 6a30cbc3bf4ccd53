// What the tests of this room share: made-up clips.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "kinora/base/test_folder.h"
#include "kinora/media/frames.h"

namespace kinora::media {

/// Smooth colours with a bright bar that moves: compresses well, and no two frames are equal.
inline Frames smooth_clip(int64_t frames, int64_t height, int64_t width, double fps = 24.0) {
  Frames clip = make_frames(frames, height, width, fps);
  for (int64_t f = 0; f < frames; ++f) {
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        uint8_t* pixel = clip.frame(f) + 3 * (y * width + x);
        const bool is_bar = (x + 2 * f) % 16 < 4;
        pixel[0] = static_cast<uint8_t>(is_bar ? 220 : 60 + 100 * x / width);
        pixel[1] = static_cast<uint8_t>(60 + 120 * y / height);
        pixel[2] = static_cast<uint8_t>(is_bar ? 40 : 120);
      }
    }
  }
  return clip;
}

/// Every pixel another colour, as hard as it gets.
inline Frames noise_clip(int64_t frames, int64_t height, int64_t width) {
  Frames clip = make_frames(frames, height, width);
  uint32_t state = 12345;
  for (uint8_t& value : clip.rgb) value = static_cast<uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return clip;
}

inline int largest_difference(const Frames& a, const Frames& b) {
  if (a.frames != b.frames || a.height != b.height || a.width != b.width || a.rgb.size() != b.rgb.size()) return 1000;
  int most = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) most = std::max(most, std::abs(int{a.rgb[i]} - int{b.rgb[i]}));
  return most;
}

}  // namespace kinora::media
