#include "kinora/media/palette.h"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace kinora::media {
namespace {

constexpr size_t kMostColours = 256;
constexpr int kBits = 5;  // of a channel; 32768 cells are enough to place 256 colours
constexpr int kCells = 1 << (3 * kBits);
constexpr int kDither = 24;  // height of the pattern: about the distance of 256 colours spread over the cube

uint32_t key_of(const uint8_t* pixel) { return uint32_t{pixel[0]} << 16 | uint32_t{pixel[1]} << 8 | pixel[2]; }

int cell_of(int red, int green, int blue) {
  constexpr int kShift = 8 - kBits;
  return (red >> kShift) << (2 * kBits) | (green >> kShift) << kBits | blue >> kShift;
}

struct Cell {
  std::array<uint64_t, 3> sum{};
  uint64_t count = 0;
  int mean(size_t channel) const { return static_cast<int>((sum[channel] + count / 2) / count); }
};

/// A group of cells that will become one colour.
struct Box {
  size_t begin = 0, end = 0;  // in the list of used cells
  size_t channel = 0;         // of the longest side
  double weight = 0;          // pixels times the squared longest side: what a cut may gain
};

Box make_box(const std::vector<Cell>& cells, size_t begin, size_t end) {
  Box box{begin, end, 0, 0};
  uint64_t pixels = 0;
  for (size_t i = begin; i < end; ++i) pixels += cells[i].count;
  int longest = -1;
  for (size_t channel = 0; channel < 3; ++channel) {
    int low = 255, high = 0;
    for (size_t i = begin; i < end; ++i) {
      low = std::min(low, cells[i].mean(channel));
      high = std::max(high, cells[i].mean(channel));
    }
    if (high - low > longest) {
      longest = high - low;
      box.channel = channel;
    }
  }
  box.weight = end - begin > 1 ? static_cast<double>(pixels) * longest * longest : 0.0;
  return box;
}

Rgb mean_colour(const std::vector<Cell>& cells, const Box& box) {
  Cell all;
  for (size_t i = box.begin; i < box.end; ++i) {
    all.count += cells[i].count;
    for (size_t channel = 0; channel < 3; ++channel) all.sum[channel] += cells[i].sum[channel];
  }
  return {static_cast<uint8_t>(all.mean(0)), static_cast<uint8_t>(all.mean(1)), static_cast<uint8_t>(all.mean(2))};
}

/// Bayer's 8x8 threshold of a position, in 0..63: the bits of x ^ y and y, interleaved in reverse.
int bayer(int64_t y, int64_t x) {
  int value = 0;
  for (int bit = 0; bit < 3; ++bit) {
    value = value << 2 | static_cast<int>(((x ^ y) >> bit & 1) << 1 | (y >> bit & 1));
  }
  return value;
}

}  // namespace

Palette::Palette(std::span<const uint8_t> rgb) {
  for (size_t i = 0; i + 3 <= rgb.size(); i += 3) {
    const auto [at, is_fresh] = exact_.try_emplace(key_of(&rgb[i]), static_cast<uint8_t>(colours_.size()));
    if (!is_fresh) continue;
    if (colours_.size() == kMostColours) {
      exact_.clear();
      break;
    }
    colours_.push_back({rgb[i], rgb[i + 1], rgb[i + 2]});
  }
  if (colours_.empty()) colours_.push_back({0, 0, 0});
  if (exact_.empty()) cut(rgb);
}

void Palette::cut(std::span<const uint8_t> rgb) {
  std::vector<Cell> cells(kCells);
  for (size_t i = 0; i + 3 <= rgb.size(); i += 3) {
    Cell& cell = cells[static_cast<size_t>(cell_of(rgb[i], rgb[i + 1], rgb[i + 2]))];
    ++cell.count;
    for (size_t channel = 0; channel < 3; ++channel) cell.sum[channel] += rgb[i + channel];
  }
  std::erase_if(cells, [](const Cell& cell) { return cell.count == 0; });
  std::vector<Box> boxes{make_box(cells, 0, cells.size())};
  while (boxes.size() < kMostColours) {
    const auto heaviest =
        std::max_element(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.weight < b.weight; });
    if (heaviest == boxes.end() || heaviest->weight <= 0) break;
    const Box box = *heaviest;
    const auto first = cells.begin() + static_cast<ptrdiff_t>(box.begin),
               last = cells.begin() + static_cast<ptrdiff_t>(box.end);
    std::sort(first, last, [&](const Cell& a, const Cell& b) { return a.mean(box.channel) < b.mean(box.channel); });
    uint64_t pixels = 0, below = 0;
    for (auto at = first; at != last; ++at) pixels += at->count;
    size_t middle = box.begin;
    while (middle + 1 < box.end && (below += cells[middle].count) * 2 < pixels) ++middle;
    middle = std::clamp(middle, box.begin + 1, box.end - 1);
    *heaviest = make_box(cells, box.begin, middle);
    boxes.push_back(make_box(cells, middle, box.end));
  }
  colours_.clear();
  for (const Box& box : boxes) colours_.push_back(mean_colour(cells, box));
  table_.resize(kCells);
  for (int cell = 0; cell < kCells; ++cell) {
    constexpr int kMask = (1 << kBits) - 1, kShift = 8 - kBits, kCentre = 1 << (kShift - 1);
    table_[static_cast<size_t>(cell)] =
        nearest(((cell >> (2 * kBits)) << kShift) + kCentre, (((cell >> kBits) & kMask) << kShift) + kCentre,
                ((cell & kMask) << kShift) + kCentre);
  }
}

uint8_t Palette::nearest(int red, int green, int blue) const {
  int best = std::numeric_limits<int>::max();
  size_t entry = 0;
  for (size_t i = 0; i < colours_.size(); ++i) {
    const int r = colours_[i][0] - red, g = colours_[i][1] - green, b = colours_[i][2] - blue;
    const int distance = 3 * r * r + 6 * g * g + b * b;  // about how much of the brightness each carries
    if (distance < best) {
      best = distance;
      entry = i;
    }
  }
  return static_cast<uint8_t>(entry);
}

std::vector<uint8_t> Palette::map(const uint8_t* rgb, int64_t height, int64_t width, bool dither) const {
  std::vector<uint8_t> out(static_cast<size_t>(height * width));
  size_t i = 0;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x, ++i, rgb += 3) {
      if (is_exact()) {
        const auto at = exact_.find(key_of(rgb));
        out[i] = at != exact_.end() ? at->second : nearest(rgb[0], rgb[1], rgb[2]);
        continue;
      }
      const int shift = dither ? (bayer(y, x) * kDither) / 64 - kDither / 2 : 0;
      const auto moved = [shift](uint8_t value) { return std::clamp(value + shift, 0, 255); };
      out[i] = table_[static_cast<size_t>(cell_of(moved(rgb[0]), moved(rgb[1]), moved(rgb[2])))];
    }
  }
  return out;
}

}  // namespace kinora::media
