// What the tests of this room share: made-up clips, a folder that goes away.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "kinora/base/error.h"
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

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "kinora-media-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw ResourceError("no temporary folder");
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  /// Files and folders in it, hidden ones too.
  int64_t count() const {
    return std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator());
  }

 private:
  std::filesystem::path path_;
};

}  // namespace kinora::media
