// What made a clip, kept inside its file: as JSON (ASCII, one line) in the comment of an MP4, GIF or PNG; the prompt
// also as title.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kinora::media {

struct Metadata {
  std::string prompt;  ///< UTF-8; bytes that are not become U+FFFD
  std::string model;   ///< class or folder name
  std::optional<uint64_t> seed;
  std::string settings = "{}";  ///< a JSON object: size, steps, guidance, ... as the caller likes
  /// Size of the clip that was saved. The savers fill it; an MP4 of odd size holds one row or column more than this.
  int64_t frames = 0, height = 0, width = 0;
  double fps = 0;
};

/// {"software": "kinora", "prompt": ..., "model": ..., "seed": ..., "settings": {...}, "clip": {...}}.
/// Throws UsageError when settings is no JSON object.
std::string to_json(const Metadata& metadata);

/// Reads what to_json wrote. Text that is something else (a foreign file's comment, damage, over 2 MiB, nested deeply)
/// gives empty metadata: a file is not refused for its comment.
Metadata metadata_from_json(std::string_view text);

/// The same text with bytes that are not UTF-8 replaced by U+FFFD and control characters but newline and tab by a
/// space.
std::string clean_text(std::string_view text);

}  // namespace kinora::media
