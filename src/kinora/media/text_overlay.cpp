#include "kinora/media/text_overlay.h"

#include <algorithm>
#include <array>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora::media {
namespace {

constexpr int64_t kGlyphWidth = 5, kGlyphHeight = 7, kAdvance = 6;

/// Characters 0x20 to 0x7e; of each seven rows from the top, eight bits a row, the low five of them the pixels.
constexpr std::array<uint64_t, 95> kGlyphs = {
    0x00000000000000, 0x04040404040004, 0x0A0A0A00000000, 0x0A0A1F0A1F0A0A, 0x040F140E051E04, 0x18190204081303,
    0x0C12140815120D, 0x04040800000000, 0x02040808080402, 0x08040202020408, 0x0004150E150400, 0x0004041F040400,
    0x000000000C0408, 0x0000001F000000, 0x00000000000C0C, 0x00010204081000, 0x0E11131519110E, 0x040C040404040E,
    0x0E11010204081F, 0x1F02040201110E, 0x02060A121F0202, 0x1F101E0101110E, 0x0608101E11110E, 0x1F010204080808,
    0x0E11110E11110E, 0x0E11110F01020C, 0x000C0C000C0C00, 0x000C0C000C0408, 0x02040810080402, 0x00001F001F0000,
    0x08040201020408, 0x0E110102040004, 0x0E11010D15150E, 0x0E1111111F1111, 0x1E11111E11111E, 0x0E11101010110E,
    0x1C12111111121C, 0x1F10101E10101F, 0x1F10101E101010, 0x0E11101711110F, 0x1111111F111111, 0x0E04040404040E,
    0x0702020202120C, 0x11121418141211, 0x1010101010101F, 0x111B1515111111, 0x11111915131111, 0x0E11111111110E,
    0x1E11111E101010, 0x0E11111115120D, 0x1E11111E141211, 0x0F10100E01011E, 0x1F040404040404, 0x1111111111110E,
    0x11111111110A04, 0x1111111515150A, 0x11110A040A1111, 0x1111110A040404, 0x1F01020408101F, 0x0E08080808080E,
    0x00100804020100, 0x0E02020202020E, 0x040A1100000000, 0x0000000000001F, 0x08040200000000, 0x00000E010F110F,
    0x1010161911111E, 0x00000E1010110E, 0x01010D1311110F, 0x00000E111F100E, 0x0609081C080808, 0x000F11110F010E,
    0x10101619111111, 0x04000C0404040E, 0x0200060202120C, 0x10101214181412, 0x0C04040404040E, 0x00001A15151111,
    0x00001619111111, 0x00000E1111110E, 0x00001E111E1010, 0x00000D130F0101, 0x00001619101010, 0x00000E100E011E,
    0x08081C08080906, 0x0000111111130D, 0x00001111110A04, 0x0000111115150A, 0x0000110A040A11, 0x000011110F010E,
    0x00001F0204081F, 0x02040408040402, 0x04040404040404, 0x08040402040408, 0x00000815020000,
};

uint64_t glyph_of(char32_t c) { return kGlyphs[c >= 0x20 && c < 0x7f ? c - 0x20 : U'?' - 0x20]; }

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) next_code_point(text, at);
  return count;
}

}  // namespace

int64_t text_width_px(std::string_view text, int64_t scale) {
  return std::max<int64_t>(0, count_characters(text) * kAdvance - 1) * scale;
}

int64_t text_height_px(int64_t scale) { return kGlyphHeight * scale; }

void draw_text(Frames& frames, int64_t index, int64_t top, int64_t left, std::string_view text,
               const TextStyle& style) {
  if (index < 0 || index >= frames.frames) throw UsageError(concat("draw_text: frame ", index, " of ", frames.frames));
  if (style.scale < 1) throw UsageError(concat("draw_text: scale ", style.scale));
  for (size_t at = 0; at < text.size(); left += kAdvance * style.scale) {
    const uint64_t glyph = glyph_of(next_code_point(text, at));
    for (int64_t y = 0; y < kGlyphHeight * style.scale; ++y) {
      const uint64_t row = glyph >> (8 * (kGlyphHeight - 1 - y / style.scale));
      for (int64_t x = 0; x < kGlyphWidth * style.scale; ++x) {
        const bool is_ink = (row >> (kGlyphWidth - 1 - x / style.scale) & 1) != 0;
        const bool is_inside = top + y >= 0 && top + y < frames.height && left + x >= 0 && left + x < frames.width;
        if (is_ink && is_inside)
          std::copy(style.rgb.begin(), style.rgb.end(),
                    frames.frame(index) + 3 * ((top + y) * frames.width + left + x));
      }
    }
  }
}

std::vector<std::string> wrap_text(std::string_view text, int64_t width_px, int64_t scale) {
  const auto most = std::max<int64_t>(1, (width_px / scale + 1) / kAdvance);
  std::vector<std::string> lines;
  std::string current;
  const auto finish = [&] {
    if (!current.empty()) lines.push_back(std::move(current));
    current.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(" \n\t", at), text.size());
    std::string word(text.substr(at, end - at));
    at = end + 1;
    if (word.empty()) continue;
    if (!current.empty() && count_characters(current) + 1 + count_characters(word) > most) finish();
    if (!current.empty()) current += ' ';
    // A word longer than the line is cut, between characters.
    for (size_t next = 0; next < word.size();) {
      const size_t from = next;
      if (count_characters(current) >= most) finish();
      next_code_point(word, next);
      current.append(word, from, next - from);
    }
  }
  finish();
  return lines;
}

}  // namespace kinora::media
