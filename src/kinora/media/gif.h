// GIF89a, written and read without any other program. A GIF has 256 colours a picture and whole hundredths of a second;
// clips of few colours survive exactly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::media {

struct GifOptions {
  bool palette_per_frame =
      false;           ///< 256 colours for each frame and not for the whole clip: better colours, larger file
  bool dither = true;  ///< ordered, so that a still background does not flicker
  int loops = 0;       ///< 0: for ever
};

/// The bytes of a GIF; `comment` should be ASCII. Frames faster than 50 a second are shown at 50, the most that viewers
/// do. Throws UsageError for sizes over the limits.
std::vector<uint8_t> encode_gif(const Frames& frames, std::string_view comment = {}, const GifOptions& options = {});

struct Gif {
  Frames frames;        ///< fps from the mean delay
  std::string comment;  ///< the first comment
};

/// Every frame as a viewer shows it: parts of a picture over what was there, on black where nothing ever was. Throws
/// DataError when the bytes are damaged, cut short or over the limits (limits.h).
Gif decode_gif(std::span<const uint8_t> bytes, std::string_view name = "GIF");

/// To and from files: the file appears whole or not at all. Throw also what base's write_file and read_file throw.
void write_gif(const std::filesystem::path& path, const Frames& frames, std::string_view comment = {},
               const GifOptions& options = {});
Gif read_gif(const std::filesystem::path& path);

}  // namespace kinora::media
