// 256 colours for a picture: exact where there are no more, else median cut (Heckbert 1982), optionally with ordered
// dither.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace kinora::media {

using Rgb = std::array<uint8_t, 3>;

class Palette {
 public:
  /// The colours that serve these pixels [n, 3] best; at most 256, at least one.
  explicit Palette(std::span<const uint8_t> rgb);

  const std::vector<Rgb>& colours() const { return colours_; }
  /// Every pixel is met exactly.
  bool is_exact() const { return !exact_.empty(); }
  /// Palette entry of each pixel of a picture [H, W, 3] -> [H, W]. With dither, an 8x8 Bayer pattern breaks up the
  /// bands that too few colours leave; an exact palette never dithers.
  std::vector<uint8_t> map(const uint8_t* rgb, int64_t height, int64_t width, bool dither) const;

 private:
  void cut(std::span<const uint8_t> rgb);
  uint8_t nearest(int red, int green, int blue) const;

  std::vector<Rgb> colours_;
  std::unordered_map<uint32_t, uint8_t> exact_;
  std::vector<uint8_t> table_;  // [32 * 32 * 32]: entry of each cell of the colour cube
};

}  // namespace kinora::media
