// The judge's first look: which background a clip has, and where each frame differs from it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {

using Mask = std::vector<uint8_t>;  ///< [H, W], 0 or 1

/// The object of one frame; the mask is empty where there is none.
struct Spot {
  Mask mask;
  double area = 0.0;  ///< px
  double x = 0.0;     ///< middle, px
  double y = 0.0;
  bool single = true;  ///< no other component of notable size
};

/// The background that fits a clip best.
struct Backdrop {
  const BackgroundRow* row = nullptr;
  std::vector<uint8_t> picture;           ///< [H, W, 3]
  std::vector<std::array<int, 3>> shift;  ///< of each frame: clip less picture, median, in levels
  double difference = 1e9;                ///< median difference in levels; a clip that has the background is near 0
};

Backdrop find_backdrop(const WorldConfig& config, const media::Frames& clip);

/// The largest thing in frame `index` that differs from the backdrop, its holes filled.
Spot find_object(const media::Frames& clip, int64_t index, const Backdrop& backdrop);

}  // namespace kinora::world
