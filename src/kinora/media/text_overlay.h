// Small text on pictures, in a built-in 5x7 pixel font (ASCII; any other character is shown as '?').
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::media {

struct TextStyle {
  int64_t scale = 1;  ///< pixels a font pixel
  std::array<uint8_t, 3> rgb = {0, 0, 0};
};

/// Size of one line: 6 * scale pixels a character (without the last gap), 7 * scale high.
int64_t text_width_px(std::string_view text, int64_t scale = 1);
int64_t text_height_px(int64_t scale = 1);

/// Draws one line into frame `index`, its top left corner at (top, left); what lies outside is cut. Throws UsageError
/// for a frame that is not there or a scale below 1.
void draw_text(Frames& frames, int64_t index, int64_t top, int64_t left, std::string_view text,
               const TextStyle& style = {});

/// The text as lines of at most width_px, broken at spaces; longer words are cut.
std::vector<std::string> wrap_text(std::string_view text, int64_t width_px, int64_t scale = 1);

}  // namespace kinora::media
