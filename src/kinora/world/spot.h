// The judge's first look: which background a clip has, and where each frame differs from it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {

/// One connected thing that differs from the backdrop, its holes filled; the mask [height, width] of 0 and 1 is of its
/// own box within the picture. No mask: nothing.
struct Spot {
  int64_t left = 0, top = 0, width = 0, height = 0;
  std::vector<uint8_t> mask;
  double area = 0.0;  ///< px
  double x = 0.0;     ///< middle, px
  double y = 0.0;
  bool empty() const { return mask.empty(); }
};

/// The background that fits a clip best.
struct Backdrop {
  const BackgroundRow* row = nullptr;
  std::vector<uint8_t> picture;           ///< [H, W, 3]
  std::vector<std::array<int, 3>> shift;  ///< of each frame: clip less picture, median, in levels
  double difference = 1e9;                ///< median difference in levels; a clip that has the background is near 0
};

Backdrop find_backdrop(const WorldConfig& config, const media::Frames& clip);

/// The largest things in frame `index` that differ from the backdrop, at most `most`, the largest first.
std::vector<Spot> find_spots(const media::Frames& clip, int64_t index, const Backdrop& backdrop, size_t most);

/// Colours of pixels, one list a channel.
using Pixels = std::array<std::vector<uint8_t>, 3>;

/// Adds what lies within the spot's outline and its soft edge; of thin parts, what there is.
void add_inside(Pixels& inside, const media::Frames& clip, int64_t frame, const Spot& spot);

/// Of each channel; 0 where there is no pixel.
std::array<double, 3> median_of(const Pixels& pixels);

/// In levels, differences of brightness down-weighted: a dim red is still red.
double colour_distance(const std::array<double, 3>& a, const std::array<double, 3>& b);

}  // namespace kinora::world
