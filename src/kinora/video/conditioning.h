// What a clip is given besides its prompt: pictures and clips from files, brought to the frame, and which latent frames
// they fill.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::video {

/// A picture or clip of any size that another clip is made from. `name` is for messages and metadata.
struct Reference {
  std::string name;
  media::Frames frames;
};
using ReferencePtr = std::shared_ptr<const Reference>;

/// PNG, GIF, MP4, or a folder of PNGs. Throws UsageError when there is no such file, DataError naming it for what
/// cannot be read or is too large.
ReferencePtr load_reference(const std::filesystem::path& path);
/// "a.png;b.mp4", as Open-Sora's prompts list them.
std::vector<ReferencePtr> load_references(const std::string& paths);
/// CRC-32 of the pixels.
uint32_t fingerprint(const media::Frames& frames);

/// How a picture fills a frame of another shape: resized to height x width, one of which is the frame's, then cut
/// around the middle.
struct FillGeometry {
  int64_t height, width, top, left;
};
/// As Open-Sora's resize_crop_to_fill, halves rounded to even.
FillGeometry fill_geometry(int64_t height, int64_t width, int64_t to_height, int64_t to_width);

/// Frames first .. first + count - 1 of a clip, each filling height x width: bicubic, antialiased. A clip of that size
/// stays as it is. Throws UsageError for a shape of which less than a sixteenth would be seen.
media::Frames fill_frames(const Reference& reference, int64_t first, int64_t count, int64_t height, int64_t width);

/// Frames and the whole latent frames that hold them.
struct Span {
  int64_t frames = 0, latents = 0;
  bool operator==(const Span&) const = default;
};

/// Frames that each latent frame of a clip holds, in order. chunk: frames that the autoencoder takes at a time, 0 for
/// all; factor: frames of a latent frame. The first of a chunk holds fewer where factor does not divide the chunk.
std::vector<int64_t> latent_cover(int64_t num_frames, int64_t chunk, int64_t factor);
/// The most frames at the clip's beginning, or end, that are whole latent frames and at most `most`.
Span head_span(std::span<const int64_t> cover, int64_t most);
Span tail_span(std::span<const int64_t> cover, int64_t most);

}  // namespace kinora::video
