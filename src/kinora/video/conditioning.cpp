#include "kinora/video/conditioning.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/utf8.h"
#include "kinora/media/output.h"

namespace kinora::video {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostLarger = 16;  // pixels of the resized picture for one that is kept

bool is_jpeg(const fs::path& path) {
  char magic[3] = {};
  std::ifstream(path, std::ios::binary).read(magic, 3);
  return magic[0] == '\xff' && magic[1] == '\xd8' && magic[2] == '\xff';
}

/// Python's round(): halves to even, as the default rounding mode does.
int64_t rounded(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

}  // namespace

ReferencePtr load_reference(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored) && is_jpeg(path)) {
    throw DataError(concat("'", printable(path.string(), 200), "' is a JPEG, which this build does not read"),
                    "convert it: ffmpeg -i picture.jpg picture.png");
  }
  auto reference = std::make_shared<Reference>();
  reference->name = path.string();
  reference->frames = media::load_clip(path).frames;
  return reference;
}

std::vector<ReferencePtr> load_references(const std::string& paths) {
  std::vector<ReferencePtr> out;
  for (size_t begin = 0; begin <= paths.size();) {
    const size_t end = std::min(paths.find(';', begin), paths.size());
    if (end > begin) out.push_back(load_reference(paths.substr(begin, end - begin)));
    begin = end + 1;
  }
  return out;
}

uint32_t fingerprint(const media::Frames& frames) { return crc32(std::as_bytes(std::span(frames.rgb))); }

FillGeometry fill_geometry(int64_t height, int64_t width, int64_t to_height, int64_t to_width) {
  const double by_height = static_cast<double>(to_height) / static_cast<double>(height);
  const double by_width = static_cast<double>(to_width) / static_cast<double>(width);
  if (by_height > by_width) {
    const int64_t resized = rounded(static_cast<double>(width) * by_height);
    return {to_height, resized, 0, rounded(static_cast<double>(resized - to_width) / 2.0)};
  }
  const int64_t resized = rounded(static_cast<double>(height) * by_width);
  return {resized, to_width, rounded(static_cast<double>(resized - to_height) / 2.0), 0};
}

media::Frames fill_frames(const Reference& reference, int64_t first, int64_t count, int64_t height, int64_t width) {
  const media::Frames& clip = reference.frames;
  KINORA_ASSERT(first >= 0 && count > 0 && first + count <= clip.frames);
  media::Frames out = media::make_frames(count, height, width, clip.fps);
  if (clip.height == height && clip.width == width) {
    std::copy_n(clip.frame(first), out.rgb.size(), out.rgb.data());
    return out;
  }
  const FillGeometry g = fill_geometry(clip.height, clip.width, height, width);
  if (g.height * g.width > kMostLarger * height * width) {
    throw UsageError(concat("'", printable(reference.name, 200), "' of ", clip.width, "x", clip.height,
                            " pixels cannot fill a frame of ", width, "x", height, ": nearly all of it would be cut"),
                     "cut the part that is to be seen out of it, or choose another size for the clip");
  }
  for (int64_t i = 0; i < count; ++i) {
    auto* pixels = const_cast<uint8_t*>(clip.frame(first + i));  // only read
    const at::Tensor picture = at::from_blob(pixels, {1, clip.height, clip.width, 3}, at::kByte).permute({0, 3, 1, 2});
    const at::Tensor resized = at::_upsample_bicubic2d_aa(picture, {g.height, g.width}, /*align_corners=*/false);
    at::from_blob(out.frame(i), {height, width, 3}, at::kByte)
        .copy_(resized[0].narrow(1, g.top, height).narrow(2, g.left, width).permute({1, 2, 0}));
  }
  return out;
}

std::vector<int64_t> latent_cover(int64_t num_frames, int64_t chunk, int64_t factor) {
  std::vector<int64_t> cover;
  if (chunk <= 0) chunk = num_frames;
  for (int64_t begin = 0; begin < num_frames; begin += chunk) {
    const int64_t frames = std::min(chunk, num_frames - begin), latents = (frames + factor - 1) / factor;
    cover.push_back(frames - (latents - 1) * factor);  // zeros in front fill it up
    cover.insert(cover.end(), static_cast<size_t>(latents - 1), factor);
  }
  return cover;
}

Span head_span(std::span<const int64_t> cover, int64_t most) {
  Span span;
  for (const int64_t frames : cover) {
    if (span.frames + frames > most) break;
    span.frames += frames, ++span.latents;
  }
  return span;
}

Span tail_span(std::span<const int64_t> cover, int64_t most) {
  const std::vector<int64_t> backwards(cover.rbegin(), cover.rend());
  return head_span(backwards, most);
}

}  // namespace kinora::video
