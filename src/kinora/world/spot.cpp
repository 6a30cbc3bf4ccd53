#include "kinora/world/spot.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "kinora/world/paint.h"

namespace kinora::world {
namespace {

constexpr int kMostLightShift = 20;     // levels by which a whole frame may be lighter or darker than the background
constexpr int kObjectContrast = 42;     // colour distance to the background, in levels
constexpr double kSecondObject = 0.12;  // area of another component, as a share of the largest

struct Size {
  int64_t height, width;
  int64_t pixels() const { return height * width; }
};

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

// The object covers a small part of the picture, so medians see the background alone.
Backdrop compare_with(const BackgroundRow& row, const media::Frames& clip) {
  Backdrop out{&row, paint_background(row, clip.height, clip.width), {}, 0.0};
  const int64_t pixels = clip.height * clip.width;
  std::vector<int> all(511, 0);
  double shifts = 0.0;
  for (int64_t f = 0; f < clip.frames; ++f) {
    const uint8_t* frame = clip.frame(f);
    std::array<int, 3> shift{};
    for (int64_t c = 0; c < 3; ++c) {
      std::vector<int> histogram(511, 0);
      for (int64_t p = 0; p < pixels; ++p)
        ++histogram[static_cast<size_t>(frame[p * 3 + c] - out.picture[static_cast<size_t>(p * 3 + c)] + 255)];
      shift[static_cast<size_t>(c)] = std::clamp(median_of(histogram), -kMostLightShift, kMostLightShift);
      shifts += std::abs(shift[static_cast<size_t>(c)]) / 3.0 / static_cast<double>(clip.frames);
    }
    for (int64_t p = 0; p < pixels; ++p) {
      int most = 0;
      for (size_t c = 0; c < 3; ++c)
        most = std::max(most, std::abs(frame[p * 3 + static_cast<int64_t>(c)] -
                                       out.picture[static_cast<size_t>(p) * 3 + c] - shift[c]));
      ++all[static_cast<size_t>(std::min(most, 255) + 255)];
    }
    out.shift.push_back(shift);
  }
  out.difference = median_of(all) + 0.5 * shifts;
  return out;
}

// Marks with `label` what is joined to `start` by edges and has the value `from`; returns the count.
int64_t flood(std::vector<int>& labels, Size size, int64_t start, int from, int label) {
  std::vector<int64_t> open = {start};
  labels[static_cast<size_t>(start)] = label;
  int64_t count = 0;
  while (!open.empty()) {
    const int64_t at = open.back();
    open.pop_back();
    ++count;
    const int64_t x = at % size.width, y = at / size.width;
    const auto visit = [&](bool inside, int64_t next) {
      if (inside && labels[static_cast<size_t>(next)] == from) {
        labels[static_cast<size_t>(next)] = label;
        open.push_back(next);
      }
    };
    visit(x > 0, at - 1);
    visit(x + 1 < size.width, at + 1);
    visit(y > 0, at - size.width);
    visit(y + 1 < size.height, at + size.width);
  }
  return count;
}

}  // namespace

Backdrop find_backdrop(const WorldConfig& config, const media::Frames& clip) {
  Backdrop best;
  for (const auto& name : config.backgrounds) {
    Backdrop next = compare_with(background_row(name), clip);
    if (next.difference < best.difference) best = std::move(next);
  }
  return best;
}

// Holes are filled because a fill can look like the background; closing instead would also fill the notches of a shape.
Spot find_object(const media::Frames& clip, int64_t index, const Backdrop& backdrop) {
  const Size size{clip.height, clip.width};
  const uint8_t* frame = clip.frame(index);
  const std::array<int, 3>& shift = backdrop.shift[static_cast<size_t>(index)];
  std::vector<int> labels(static_cast<size_t>(size.pixels()), 0);
  for (size_t p = 0; p < labels.size(); ++p) {
    int distance = 0;
    for (size_t c = 0; c < 3; ++c) {
      const int d = frame[p * 3 + c] - backdrop.picture[p * 3 + c] - shift[c];
      distance += d * d;
    }
    labels[p] = distance > kObjectContrast * kObjectContrast ? 1 : 0;
  }
  int label = 1, largest = 0;
  int64_t most = 0, second = 0;
  for (int64_t p = 0; p < size.pixels(); ++p) {
    if (labels[static_cast<size_t>(p)] != 1) continue;
    const int64_t count = flood(labels, size, p, 1, ++label);
    if (count > most) {
      second = most;
      most = count;
      largest = label;
    } else {
      second = std::max(second, count);
    }
  }
  Spot spot;
  if (most == 0) return spot;
  spot.single = static_cast<double>(second) < kSecondObject * static_cast<double>(most);
  for (int& value : labels) value = value == largest ? 1 : 0;
  for (int64_t y = 0; y < size.height; ++y) {
    for (int64_t x = 0; x < size.width; ++x) {
      const bool border = x == 0 || y == 0 || x + 1 == size.width || y + 1 == size.height;
      if (border && labels[static_cast<size_t>(y * size.width + x)] == 0) flood(labels, size, y * size.width + x, 0, 2);
    }
  }
  spot.mask.resize(labels.size());
  for (size_t p = 0; p < labels.size(); ++p) {
    if (labels[p] == 2) continue;
    spot.mask[p] = 1;
    spot.area += 1.0;
    spot.x += static_cast<double>(static_cast<int64_t>(p) % size.width) + 0.5;
    spot.y += static_cast<double>(static_cast<int64_t>(p) / size.width) + 0.5;
  }
  spot.x /= spot.area;
  spot.y /= spot.area;
  return spot;
}

}  // namespace kinora::world
