#include <algorithm>
#include <array>
#include <cstring>

#include "kinora/base/file.h"
#include "kinora/media/gif.h"
#include "kinora/media/limits.h"
#include "kinora/media/palette.h"

namespace kinora::media {
namespace {

constexpr uint64_t kMaxGifBytes = uint64_t{1} << 30;
constexpr int kMostCodes = 4096;

class Reader {
 public:
  Reader(std::span<const uint8_t> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  [[noreturn]] void fail(std::string_view what) const {
    throw DataError(concat("'", name_, "' is damaged or no GIF that can be read: ", what));
  }
  std::span<const uint8_t> take(size_t length) {
    if (bytes_.size() - at_ < length) fail("it ends too early");
    at_ += length;
    return bytes_.subspan(at_ - length, length);
  }
  int byte() { return take(1)[0]; }
  int word() {
    const auto two = take(2);
    return two[0] | two[1] << 8;
  }
  std::vector<Rgb> palette(int flags) {
    std::vector<Rgb> out(size_t{2} << (flags & 7));
    for (Rgb& colour : out) std::copy_n(take(3).data(), 3, colour.data());
    return out;
  }
  /// All blocks up to the empty one, joined; `most` bounds what is kept of them.
  std::vector<uint8_t> blocks(size_t most) {
    std::vector<uint8_t> out;
    while (const int length = byte()) {
      const auto block = take(static_cast<size_t>(length));
      const size_t room = most - std::min(most, out.size());
      out.insert(out.end(), block.begin(), block.begin() + static_cast<ptrdiff_t>(std::min(room, block.size())));
    }
    return out;
  }

 private:
  std::span<const uint8_t> bytes_;
  std::string_view name_;
  size_t at_ = 0;
};

/// Fills `pixels` from LZW data; gives the number of pixels that were there, or -1 for a code that cannot be.
int64_t unpack(std::span<const uint8_t> data, int bits, std::span<uint8_t> pixels) {
  const int clear = 1 << bits;
  std::array<int16_t, kMostCodes> prefix{};
  std::array<uint8_t, kMostCodes> last{}, stack{};
  for (int i = 0; i < clear; ++i) last[static_cast<size_t>(i)] = static_cast<uint8_t>(i);
  int width = bits + 1, next = clear + 2, previous = -1, first = 0, num_bits = 0;
  uint32_t buffer = 0;
  size_t filled = 0, at = 0;
  while (filled < pixels.size()) {
    for (; num_bits < width; num_bits += 8) {
      if (at == data.size()) return static_cast<int64_t>(filled);
      buffer |= uint32_t{data[at++]} << num_bits;
    }
    const int code = static_cast<int>(buffer & ((1u << width) - 1));
    buffer >>= width;
    num_bits -= width;
    if (code == clear) {
      width = bits + 1;
      next = clear + 2;
      previous = -1;
      continue;
    }
    if (code == clear + 1) break;
    if (code > next || (code == next && previous < 0) || (previous < 0 && code > clear)) return -1;
    // A chain of prefixes is at most as long as the table, and each prefix is an older entry: the walk ends.
    size_t depth = 0;
    int walk = code;
    if (code == next) {
      stack[depth++] = static_cast<uint8_t>(first);
      walk = previous;
    }
    for (; walk > clear; walk = prefix[static_cast<size_t>(walk)]) stack[depth++] = last[static_cast<size_t>(walk)];
    first = last[static_cast<size_t>(walk)];
    stack[depth++] = static_cast<uint8_t>(first);
    while (depth > 0 && filled < pixels.size()) pixels[filled++] = stack[--depth];
    if (previous >= 0 && next < kMostCodes) {
      prefix[static_cast<size_t>(next)] = static_cast<int16_t>(previous);
      last[static_cast<size_t>(next)] = static_cast<uint8_t>(first);
      if (++next == 1 << width && width < 12) ++width;
    }
    previous = code;
  }
  return static_cast<int64_t>(filled);
}

struct Control {
  int disposal = 0;
  int delay = 0;
  int transparent = -1;
};

constexpr int kDisposeToBackground = 2, kDisposeToPrevious = 3;

/// Rows of an interlaced picture in the order of the file: every 8th from 0, every 8th from 4, every 4th from 2, the odd
/// ones.
std::vector<int64_t> row_order(int64_t height, bool is_interlaced) {
  std::vector<int64_t> rows;
  if (!is_interlaced) {
    for (int64_t y = 0; y < height; ++y) rows.push_back(y);
    return rows;
  }
  for (const auto& [first, stride] : {std::pair{0, 8}, {4, 8}, {2, 4}, {1, 2}}) {
    for (int64_t y = first; y < height; y += stride) rows.push_back(y);
  }
  return rows;
}

class Decoder {
 public:
  Decoder(std::span<const uint8_t> bytes, std::string_view name) : reader_(bytes, name), name_(name) {}

  Gif run() {
    const auto magic = reader_.take(6);
    if (std::memcmp(magic.data(), "GIF87a", 6) != 0 && std::memcmp(magic.data(), "GIF89a", 6) != 0)
      reader_.fail("the first bytes are not GIF's");
    frames_.width = reader_.word();
    frames_.height = reader_.word();
    check_clip_size<DataError>(name_, 1, frames_.height, frames_.width);
    const int flags = reader_.byte();
    reader_.take(2);
    if ((flags & 0x80) != 0) palette_ = reader_.palette(flags);
    canvas_.assign(static_cast<size_t>(frames_.frame_bytes()), 0);
    for (int kind = reader_.byte(); kind != 0x3b; kind = reader_.byte()) {
      if (kind == 0x21)
        extension();
      else if (kind == 0x2c)
        picture();
      else
        reader_.fail("a block of unknown kind");
    }
    if (frames_.frames == 0) reader_.fail("it has no picture");
    frames_.fps = delay_ > 0 ? 100.0 * static_cast<double>(frames_.frames) / static_cast<double>(delay_) : 10.0;
    gif_.frames = std::move(frames_);
    return std::move(gif_);
  }

 private:
  void extension() {
    const int label = reader_.byte();
    const std::vector<uint8_t> data = reader_.blocks(kMaxMetadataBytes);
    if (label == 0xfe && gif_.comment.empty()) gif_.comment.assign(data.begin(), data.end());
    if (label != 0xf9 || data.size() < 4) return;
    control_.disposal = data[0] >> 2 & 7;
    control_.delay = data[1] | data[2] << 8;
    control_.transparent = (data[0] & 1) != 0 ? data[3] : -1;
  }

  void picture() {
    const int64_t left = reader_.word(), top = reader_.word(), width = reader_.word(), height = reader_.word();
    if (width < 1 || height < 1 || left + width > frames_.width || top + height > frames_.height)
      reader_.fail("a picture outside of the canvas");
    const int flags = reader_.byte();
    const std::vector<Rgb> colours = (flags & 0x80) != 0 ? reader_.palette(flags) : palette_;
    const int bits = reader_.byte();
    if (bits < 2 || bits > 8) reader_.fail("a code width that cannot be");
    check_clip_size<DataError>(name_, frames_.frames + 1, frames_.height, frames_.width);
    std::vector<uint8_t> entries(static_cast<size_t>(width * height));
    const std::vector<uint8_t> data = reader_.blocks(kMaxGifBytes);
    if (unpack(data, bits, entries) != width * height) reader_.fail("its compressed data does not give the picture");
    const std::vector<uint8_t> before = control_.disposal == kDisposeToPrevious ? canvas_ : std::vector<uint8_t>();
    const std::vector<int64_t> rows = row_order(height, (flags & 0x40) != 0);
    for (int64_t i = 0; i < width * height; ++i) {
      const int entry = entries[static_cast<size_t>(i)];
      if (entry == control_.transparent) continue;
      if (static_cast<size_t>(entry) >= colours.size()) reader_.fail("a colour outside of the palette");
      const int64_t at = (top + rows[static_cast<size_t>(i / width)]) * frames_.width + left + i % width;
      std::copy_n(colours[static_cast<size_t>(entry)].data(), 3, &canvas_[static_cast<size_t>(3 * at)]);
    }
    frames_.rgb.insert(frames_.rgb.end(), canvas_.begin(), canvas_.end());
    ++frames_.frames;
    delay_ += control_.delay;
    // How the next picture finds the canvas. Browsers clear to transparent, whatever the background colour; here black.
    if (control_.disposal == kDisposeToPrevious) canvas_ = before;
    for (int64_t y = top; control_.disposal == kDisposeToBackground && y < top + height; ++y)
      std::fill_n(&canvas_[static_cast<size_t>(3 * (y * frames_.width + left))], 3 * width, uint8_t{0});
    control_ = {};
  }

  Reader reader_;
  std::string_view name_;
  Gif gif_;
  Frames frames_;
  std::vector<Rgb> palette_;
  std::vector<uint8_t> canvas_;
  Control control_;
  int64_t delay_ = 0;
};

}  // namespace

Gif decode_gif(std::span<const uint8_t> bytes, std::string_view name) { return Decoder(bytes, name).run(); }

Gif read_gif(const std::filesystem::path& path) {
  const std::string bytes = read_file(path, kMaxGifBytes);
  return decode_gif({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, path.string());
}

}  // namespace kinora::media
