// The pieces of the renderer that the judge shares. Pixel (0, 0) covers [0, 1) x [0, 1), so its middle is (0.5, 0.5).
#pragma once

#include <cstdint>
#include <vector>

#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {

/// An object as it stands in one frame: its middle (centre of mass), its radius and its clockwise angle in radians.
struct Figure {
  const ShapeRow* shape;
  Rgb rgb;
  double x_px, y_px, radius_px;
  double angle = 0.0;
};

/// The background alone, [H, W, 3].
std::vector<uint8_t> paint_background(const BackgroundRow& row, int64_t height, int64_t width);

/// Paints the figure over the picture [H, W, 3], anti-aliased, with a dark outline inside its edge.
void paint_figure(const Figure& figure, double outline_px, uint8_t* picture, int64_t height, int64_t width);

}  // namespace kinora::world
