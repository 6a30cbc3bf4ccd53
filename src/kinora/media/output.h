// Clips to and from files, the kind taken from the name: .mp4, .gif, .png for one picture, and many .png as a folder
// ("out/") or a pattern ("out_%04d.png").
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "kinora/media/ffmpeg.h"
#include "kinora/media/frames.h"
#include "kinora/media/metadata.h"

namespace kinora::media {

enum class OutputKind { kMp4, kGif, kPng, kPngPattern, kPngFolder };

/// What the name asks for. Throws UsageError, which lists what works, for any other.
OutputKind output_kind(const std::filesystem::path& path);

/// Before any work starts: the kind is known, the folder exists and can be written (tried, not guessed), ffmpeg is there
/// when it is needed. Throws UsageError or ResourceError; leaves nothing behind.
void check_output(const std::filesystem::path& path);
/// Whether a clip of this size can be of the kind that the name asks for: .png is one picture, and a GIF, which is made
/// whole, has the limits of limits.h. Throws UsageError.
void check_output_size(const std::filesystem::path& path, int64_t frames, int64_t height, int64_t width);

/// Writes the clip; the file appears whole or not at all, of several files all or none. The rate is the frames' fps.
void save_clip(const std::filesystem::path& path, const Frames& frames, const Metadata& metadata = {},
               const VideoOptions& options = {});

struct Clip {
  Frames frames;
  Metadata metadata;  ///< empty for files that others made, but for the prompt where there is a title
};

/// Reads a clip: the first bytes decide what it is, not the name. A folder: its .png in the order of their names.
/// Throws UsageError when there is nothing, DataError for what cannot be read.
Clip load_clip(const std::filesystem::path& path);

}  // namespace kinora::media
