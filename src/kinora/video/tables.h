// The sizes and lengths that Open-Sora 1.2 was trained on, as VideoSys lists them: literal tables, for their rounding follows
// no rule. Aspect ratios are written H:W, so "9:16" of 480p is 480 x 854, a landscape clip.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace kinora::video {

struct TableSize {
  const char* key;  ///< height / width with the digits of the table: "0.56", in the PixArt tables "0.6"
  int64_t height, width;
};

struct Resolution {
  const char* name;  ///< "144p" .. "4k"; "256" .. "2880" are PixArt's tables for pictures
  int64_t area;      ///< nominal pixels
  std::span<const TableSize> sizes;
};

/// In the reference's order.
std::span<const Resolution> resolutions();
/// Throws UsageError that lists the names.
const Resolution& resolution(std::string_view name);

/// "9:16" and the key of its size, "0.56".
std::span<const std::pair<const char*, const char*>> aspect_ratios();
/// Names of lengths and their frames: {"2s", 51}.
std::span<const std::pair<const char*, int64_t>> length_names();

/// Size of `aspect` (H:W) in the table: the one of its key; where the table has other keys (PixArt's) the nearest. Throws
/// UsageError for an unknown resolution or aspect ratio.
const TableSize& image_size(std::string_view resolution, std::string_view aspect);

/// The entry whose key is nearest to height / width; of equally near ones the first.
const TableSize& closest_size(const Resolution& resolution, double height, double width);

/// "2s", "16x" or a number. Throws UsageError for anything else and for less than one frame.
int64_t num_frames_of(std::string_view name);

}  // namespace kinora::video
