#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "kinora/base/file.h"
#include "kinora/media/gif.h"
#include "kinora/media/limits.h"
#include "kinora/media/palette.h"

namespace kinora::media {
namespace {

constexpr int kMostCodes = 4096;
constexpr size_t kPaletteSample = size_t{1} << 22;  // pixels that a clip's palette looks at

class Bytes {
 public:
  void byte(int value) { out_.push_back(static_cast<uint8_t>(value)); }
  void word(int64_t value) {
    byte(static_cast<int>(value & 0xff));
    byte(static_cast<int>(value >> 8 & 0xff));
  }
  void text(std::string_view value) { out_.insert(out_.end(), value.begin(), value.end()); }
  /// Data in blocks of at most 255 bytes, each behind its length; a length of 0 ends them.
  void blocks(std::span<const uint8_t> data) {
    for (size_t at = 0; at < data.size();) {
      const size_t length = std::min<size_t>(255, data.size() - at);
      byte(static_cast<int>(length));
      out_.insert(out_.end(), data.begin() + static_cast<ptrdiff_t>(at),
                  data.begin() + static_cast<ptrdiff_t>(at + length));
      at += length;
    }
    byte(0);
  }
  void palette(const Palette& palette, int bits) {
    for (size_t i = 0; i < size_t{1} << bits; ++i) {
      const Rgb colour = i < palette.colours().size() ? palette.colours()[i] : Rgb{0, 0, 0};
      for (const uint8_t channel : colour) byte(channel);
    }
  }
  std::vector<uint8_t> take() { return std::move(out_); }

 private:
  std::vector<uint8_t> out_;
};

/// Lempel-Ziv-Welch as GIF89a appendix F has it: codes of growing width, low bits first, a clear code when the table is
/// full.
class LzwWriter {
 public:
  explicit LzwWriter(int bits) : first_width_(bits + 1), clear_(1 << bits), table_(kSlots) {}

  std::vector<uint8_t> operator()(std::span<const uint8_t> pixels) {
    restart();
    int prefix = pixels[0];
    for (size_t i = 1; i < pixels.size(); ++i) {
      Slot& slot = find(prefix, pixels[i]);
      if (slot.code >= 0) {
        prefix = slot.code;
        continue;
      }
      put(prefix);
      if (next_ < kMostCodes) {
        slot = {key(prefix, pixels[i]), next_};
        // The reader's table is one entry behind, so the width grows when the entry and not the next one needs it.
        if (next_++ == 1 << width_) ++width_;
      } else {
        restart();
      }
      prefix = pixels[i];
    }
    put(prefix);
    if (next_ == 1 << width_ && width_ < 12) ++width_;  // the reader has caught up with us by then
    put(clear_ + 1);
    if (num_bits_ > 0) out_.push_back(static_cast<uint8_t>(bits_));
    return std::move(out_);
  }

 private:
  static constexpr size_t kSlots = 16384;
  struct Slot {
    int key = -1;
    int code = -1;
  };
  static int key(int prefix, int pixel) { return prefix << 8 | pixel; }

  void restart() {
    if (!out_.empty() || num_bits_ > 0) put(clear_);
    std::fill(table_.begin(), table_.end(), Slot{});
    width_ = first_width_;
    next_ = clear_ + 2;
    if (out_.empty() && num_bits_ == 0) put(clear_);
  }
  Slot& find(int prefix, int pixel) {
    const int wanted = key(prefix, pixel);
    size_t at = (static_cast<uint32_t>(wanted) * 2654435761u >> 18) % kSlots;
    while (table_[at].key >= 0 && table_[at].key != wanted) at = (at + 1) % kSlots;
    return table_[at];
  }
  void put(int code) {
    bits_ |= static_cast<uint32_t>(code) << num_bits_;
    num_bits_ += width_;
    for (; num_bits_ >= 8; num_bits_ -= 8, bits_ >>= 8) out_.push_back(static_cast<uint8_t>(bits_ & 0xff));
  }

  int first_width_, clear_, width_ = 0, next_ = 0;
  std::vector<Slot> table_;
  uint32_t bits_ = 0;
  int num_bits_ = 0;
  std::vector<uint8_t> out_;
};

struct Rect {
  int64_t top = 0, left = 0, height = 1, width = 1;
};

/// What differs between two pictures [H, W, 3]; one pixel when nothing does, as a GIF's picture has at least one.
Rect changed_part(const std::vector<uint8_t>& before, const std::vector<uint8_t>& after, int64_t height,
                  int64_t width) {
  int64_t top = height, bottom = -1, left = width, right = -1;
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* a = before.data() + y * width * 3;
    const uint8_t* b = after.data() + y * width * 3;
    if (std::memcmp(a, b, static_cast<size_t>(width * 3)) == 0) continue;
    top = std::min(top, y);
    bottom = y;
    for (int64_t x = 0; x < width; ++x) {
      if (std::memcmp(a + 3 * x, b + 3 * x, 3) == 0) continue;
      left = std::min(left, x);
      right = std::max(right, x);
    }
  }
  return bottom < 0 ? Rect{} : Rect{top, left, bottom - top + 1, right - left + 1};
}

int bits_for(const Palette& palette) {
  int bits = 1;
  while (size_t{1} << bits < palette.colours().size()) ++bits;
  return bits;
}

/// Of a long clip every n-th pixel, n odd so that no column is left out.
Palette clip_palette(const Frames& frames) {
  const size_t pixels = frames.rgb.size() / 3;
  if (pixels <= kPaletteSample) return Palette(frames.rgb);
  const size_t stride = (pixels / kPaletteSample) | 1;
  std::vector<uint8_t> sample;
  for (size_t i = 0; i < pixels; i += stride) sample.insert(sample.end(), &frames.rgb[3 * i], &frames.rgb[3 * i] + 3);
  return Palette(sample);
}

}  // namespace

std::vector<uint8_t> encode_gif(const Frames& frames, std::string_view comment, const GifOptions& options) {
  check_clip_size<UsageError>("GIF", frames.frames, frames.height, frames.width);
  check(frames);
  if (options.loops < 0 || options.loops > 65535)
    throw UsageError(concat("GIF: loops ", options.loops, " is not in 0 to 65535"));
  std::optional<Palette> palette;
  if (!options.palette_per_frame) palette.emplace(clip_palette(frames));

  Bytes out;
  out.text("GIF89a");
  out.word(frames.width);
  out.word(frames.height);
  const int clip_bits = palette ? bits_for(*palette) : 0;
  out.byte(palette ? 0xf0 | (clip_bits - 1) : 0x70);
  out.word(0);  // background colour, square pixels
  if (palette) out.palette(*palette, clip_bits);
  if (frames.frames > 1) {
    out.text("\x21\xff\x0bNETSCAPE2.0\x03\x01");
    out.word(options.loops);
    out.byte(0);
  }
  if (!comment.empty()) {
    out.text("\x21\xfe");
    out.blocks({reinterpret_cast<const uint8_t*>(comment.data()), comment.size()});
  }

  const double rate = std::min(frames.fps, 50.0);
  std::vector<uint8_t> shown, picture(static_cast<size_t>(frames.frame_bytes()));
  for (int64_t f = 0; f < frames.frames; ++f) {
    if (options.palette_per_frame)
      palette.emplace(std::span(frames.frame(f), static_cast<size_t>(frames.frame_bytes())));
    const std::vector<uint8_t> entries = palette->map(frames.frame(f), frames.height, frames.width, options.dither);
    for (size_t i = 0; i < entries.size(); ++i) std::copy_n(palette->colours()[entries[i]].data(), 3, &picture[3 * i]);
    const Rect part =
        f == 0 ? Rect{0, 0, frames.height, frames.width} : changed_part(shown, picture, frames.height, frames.width);
    shown = picture;
    std::vector<uint8_t> pixels;
    for (int64_t y = part.top; y < part.top + part.height; ++y) {
      const auto row = entries.begin() + y * frames.width + part.left;
      pixels.insert(pixels.end(), row, row + part.width);
    }

    // Each delay is rounded from the clip's start, so that errors do not add up: 24 a second gives 4, 4, 5, 4, 4, 4,
    // ...
    const auto hundredths = [rate](int64_t index) { return std::llround(100.0 * static_cast<double>(index) / rate); };
    const int bits = bits_for(*palette), lzw_bits = std::max(2, bits);
    out.text("\x21\xf9\x04\x04");  // keep the picture: the next one changes a part of it
    out.word(std::min<int64_t>(65535, hundredths(f + 1) - hundredths(f)));
    out.word(0);
    out.byte(0x2c);
    out.word(part.left);
    out.word(part.top);
    out.word(part.width);
    out.word(part.height);
    out.byte(options.palette_per_frame ? 0x80 | (bits - 1) : 0);
    if (options.palette_per_frame) out.palette(*palette, bits);
    out.byte(lzw_bits);
    out.blocks(LzwWriter(lzw_bits)(pixels));
  }
  out.byte(0x3b);
  return out.take();
}

void write_gif(const std::filesystem::path& path, const Frames& frames, std::string_view comment,
               const GifOptions& options) {
  const std::vector<uint8_t> bytes = encode_gif(frames, comment, options);
  write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace kinora::media
