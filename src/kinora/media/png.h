// PNG files through libpng: 8-bit RGB out; in, every colour type is turned into it (grey repeated, alpha dropped, 16
// bits cut).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::media {

/// Keyword (Latin-1, 1 to 79 bytes) and UTF-8 text. ASCII text is stored as tEXt, other as iTXt.
using TextEntries = std::vector<std::pair<std::string, std::string>>;

struct Picture {
  Frames frames;     ///< one frame
  TextEntries text;  ///< tEXt, zTXt and iTXt, in file order
};

/// The bytes of a PNG of one frame of `frames`. Throws UsageError for a bad index, size or keyword.
std::vector<uint8_t> encode_png(const Frames& frames, int64_t index = 0, const TextEntries& text = {});

/// Throws DataError when the bytes are no whole PNG, a checksum is wrong, or the picture is over the limits (limits.h).
Picture decode_png(std::span<const uint8_t> bytes, std::string_view name = "PNG");

/// encode_png into a file that appears whole or not at all. Throws ResourceError when it cannot be written.
void write_png(const std::filesystem::path& path, const Frames& frames, int64_t index = 0,
               const TextEntries& text = {});

/// decode_png of a file. Throws also what base's read_file throws.
Picture read_png(const std::filesystem::path& path);

}  // namespace kinora::media
