#include "kinora/world/spot.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "kinora/world/paint.h"

namespace kinora::world {
namespace {

constexpr int kMostLightShift = 20;  // levels by which a whole frame may be lighter or darker than the background
constexpr int kObjectContrast = 42;  // colour distance to the background, in levels
constexpr int kSampleEvery = 5;      // of the pixels, to choose between backgrounds

// The value at which a histogram of differences -255 .. 255 is halved.
int median_of(const std::vector<int>& histogram) {
  int64_t total = 0, below = 0;
  for (const int n : histogram) total += n;
  for (size_t i = 0; i < histogram.size(); ++i) {
    below += histogram[i];
    if (2 * below >= total) return static_cast<int>(i) - 255;
  }
  return 0;
}

// Objects cover less than half of the picture, so medians see the background alone. Every `step`-th pixel is looked at.
void compare_with(Backdrop& backdrop, const media::Frames& clip, int64_t step) {
  const int64_t pixels = clip.height * clip.width;
  const uint8_t* picture = backdrop.picture.data();
  std::vector<int> all(511, 0);
  double shifts = 0.0;
  backdrop.shift.clear();
  for (int64_t f = 0; f < clip.frames; ++f) {
    const uint8_t* frame = clip.frame(f);
    std::array<std::vector<int>, 3> histogram;
    for (auto& h : histogram) h.assign(511, 0);
    for (int64_t p = 0; p < pixels; p += step) {
      for (size_t c = 0; c < 3; ++c) {
        const int64_t at = p * 3 + static_cast<int64_t>(c);
        ++histogram[c][static_cast<size_t>(frame[at] - picture[at] + 255)];
      }
    }
    std::array<int, 3> shift{};
    for (size_t c = 0; c < 3; ++c) {
      shift[c] = std::clamp(median_of(histogram[c]), -kMostLightShift, kMostLightShift);
      shifts += std::abs(shift[c]) / 3.0 / static_cast<double>(clip.frames);
    }
    for (int64_t p = 0; p < pixels; p += step) {
      int most = 0;
      for (size_t c = 0; c < 3; ++c) {
        const int64_t at = p * 3 + static_cast<int64_t>(c);
        most = std::max(most, std::abs(frame[at] - picture[at] - shift[c]));
      }
      ++all[static_cast<size_t>(std::min(most, 255) + 255)];
    }
    backdrop.shift.push_back(shift);
  }
  backdrop.difference = median_of(all) + 0.5 * shifts;
}

/// A picture of labels with a border of 0 on every side, so that neighbours need no bounds.
struct Labels {
  int64_t width, height;
  std::vector<int> at;
  Labels(int64_t w, int64_t h) : width(w + 2), height(h + 2), at(static_cast<size_t>(width * height), 0) {}
  int& operator()(int64_t x, int64_t y) { return at[static_cast<size_t>((y + 1) * width + x + 1)]; }
  int operator()(int64_t x, int64_t y) const { return at[static_cast<size_t>((y + 1) * width + x + 1)]; }
};

struct Bounds {
  int64_t left, top, right, bottom;  ///< inclusive
  int64_t count = 0;
  int label = 0;
};

// Marks with `label` what is joined to (x, y) by edges and has the value `from`.
Bounds flood(Labels& labels, int64_t x, int64_t y, int from, int label) {
  std::vector<int64_t> open = {(y + 1) * labels.width + x + 1};
  labels.at[static_cast<size_t>(open[0])] = label;
  Bounds bounds{x, y, x, y, 0, label};
  while (!open.empty()) {
    const int64_t at = open.back();
    open.pop_back();
    const int64_t column = at % labels.width - 1, row = at / labels.width - 1;
    bounds.left = std::min(bounds.left, column), bounds.right = std::max(bounds.right, column);
    bounds.top = std::min(bounds.top, row), bounds.bottom = std::max(bounds.bottom, row);
    ++bounds.count;
    for (const int64_t next : {at - 1, at + 1, at - labels.width, at + labels.width}) {
      if (labels.at[static_cast<size_t>(next)] != from) continue;
      labels.at[static_cast<size_t>(next)] = label;
      open.push_back(next);
    }
  }
  return bounds;
}

// Holes are filled because a fill can look like the background; closing instead would also fill the notches of a shape.
Spot cut_out(const Labels& labels, const Bounds& bounds) {
  constexpr int kBorder = -1, kInside = 1, kOutside = 2;
  Spot spot{bounds.left, bounds.top, bounds.right - bounds.left + 1, bounds.bottom - bounds.top + 1, {}, 0, 0, 0};
  Labels own(spot.width + 2, spot.height + 2);  // one px around the thing, so that its outside hangs together
  std::fill(own.at.begin(), own.at.end(), kBorder);
  for (int64_t y = -1; y <= spot.height; ++y) {
    for (int64_t x = -1; x <= spot.width; ++x) {
      const bool within = x >= 0 && y >= 0 && x < spot.width && y < spot.height;
      own(x + 1, y + 1) = within && labels(spot.left + x, spot.top + y) == bounds.label ? kInside : 0;
    }
  }
  flood(own, 0, 0, 0, kOutside);
  spot.mask.resize(static_cast<size_t>(spot.width * spot.height));
  for (int64_t y = 0; y < spot.height; ++y) {
    for (int64_t x = 0; x < spot.width; ++x) {
      if (own(x + 1, y + 1) == kOutside) continue;
      spot.mask[static_cast<size_t>(y * spot.width + x)] = 1;
      spot.area += 1.0;
      spot.x += static_cast<double>(spot.left + x) + 0.5;
      spot.y += static_cast<double>(spot.top + y) + 0.5;
    }
  }
  spot.x /= spot.area;
  spot.y /= spot.area;
  return spot;
}

/// The spot less a border of that many px.
Spot eroded(Spot spot, int times) {
  for (int i = 0; i < times; ++i) {
    const std::vector<uint8_t> mask = spot.mask;
    for (int64_t y = 0; y < spot.height; ++y) {
      for (int64_t x = 0; x < spot.width; ++x) {
        const auto p = static_cast<size_t>(y * spot.width + x), row = static_cast<size_t>(spot.width);
        const bool border = x == 0 || y == 0 || x + 1 == spot.width || y + 1 == spot.height;
        spot.mask[p] = !border && mask[p] && mask[p - 1] && mask[p + 1] && mask[p - row] && mask[p + row];
      }
    }
  }
  spot.area = static_cast<double>(std::count(spot.mask.begin(), spot.mask.end(), 1));
  return spot;
}

}  // namespace

Backdrop find_backdrop(const WorldConfig& config, const media::Frames& clip) {
  Backdrop best;
  for (const auto& name : config.backgrounds) {
    const BackgroundRow& row = background_row(name);
    Backdrop next{&row, paint_background(row, clip.height, clip.width), {}, 1e9};
    compare_with(next, clip, config.backgrounds.size() > 1 ? kSampleEvery : 1);
    if (next.difference < best.difference) best = std::move(next);
  }
  compare_with(best, clip, 1);
  return best;
}

std::vector<Spot> find_spots(const media::Frames& clip, int64_t index, const Backdrop& backdrop, size_t most) {
  const uint8_t *pixel = clip.frame(index), *picture = backdrop.picture.data();
  const std::array<int, 3>& shift = backdrop.shift[static_cast<size_t>(index)];
  Labels labels(clip.width, clip.height);
  for (int64_t y = 0; y < clip.height; ++y) {
    for (int64_t x = 0; x < clip.width; ++x, pixel += 3, picture += 3) {
      int distance = 0;
      for (size_t c = 0; c < 3; ++c) {
        const int d = pixel[c] - picture[c] - shift[c];
        distance += d * d;
      }
      labels(x, y) = distance > kObjectContrast * kObjectContrast ? 1 : 0;
    }
  }
  std::vector<Bounds> found;
  int label = 1;
  for (int64_t y = 0; y < clip.height; ++y) {
    for (int64_t x = 0; x < clip.width; ++x) {
      if (labels(x, y) == 1) found.push_back(flood(labels, x, y, 1, ++label));
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Bounds& a, const Bounds& b) { return a.count > b.count; });
  found.resize(std::min(found.size(), most));
  std::vector<Spot> spots;
  for (const Bounds& bounds : found) spots.push_back(cut_out(labels, bounds));
  return spots;
}

void add_inside(Pixels& inside, const media::Frames& clip, int64_t frame, const Spot& spot) {
  constexpr double kLeastShare = 0.1;
  Spot core = eroded(spot, 2);
  const Spot deeper = eroded(core, 1);
  if (deeper.area >= kLeastShare * spot.area) core = deeper;
  for (int64_t y = 0; y < core.height; ++y) {
    for (int64_t x = 0; x < core.width; ++x) {
      if (!core.mask[static_cast<size_t>(y * core.width + x)]) continue;
      const uint8_t* pixel = clip.frame(frame) + ((core.top + y) * clip.width + core.left + x) * 3;
      for (size_t c = 0; c < 3; ++c) inside[c].push_back(pixel[c]);
    }
  }
}

std::array<double, 3> median_of(const Pixels& pixels) {
  std::array<double, 3> median{};
  for (size_t c = 0; c < 3 && !pixels[c].empty(); ++c) {
    std::vector<uint8_t> sorted = pixels[c];
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<int64_t>(sorted.size() / 2), sorted.end());
    median[c] = sorted[sorted.size() / 2];
  }
  return median;
}

double colour_distance(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  constexpr double kBrightness = 0.3;
  double d[3], mean = 0.0, rest = 0.0;
  for (size_t c = 0; c < 3; ++c) d[c] = a[c] - b[c], mean += d[c] / 3.0;
  for (const double v : d) rest += (v - mean) * (v - mean);
  return std::sqrt(rest + kBrightness * 3.0 * mean * mean);
}

}  // namespace kinora::world
