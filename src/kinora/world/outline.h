// The judge's second look: which shape a spot has, and how it is turned.
#pragma once

#include <array>
#include <vector>

#include "kinora/world/spot.h"
#include "kinora/world/tables.h"

namespace kinora::world {

/// By how much a spot can be larger than its shape, as shares of the radius: blur swells it, and an outline that blur
/// mixes into the colour of the background is missing.
inline constexpr std::array<double, 5> kSwells = {0.0, -0.14, -0.07, 0.07, 0.14};

/// Intersection over union of a spot and the shape, swollen by kSwells[swell] and turned by `angle` (clockwise,
/// radians), with the same middle and the same area.
double iou_with(const Spot& spot, const ShapeRow& shape, size_t swell, double angle);

/// The angle at which each shape fits the spot best.
std::vector<double> best_angles(const Spot& spot, const std::vector<const ShapeRow*>& shapes);

/// The radius of a shape of that area, swollen by kSwells[swell].
double radius_of(const ShapeRow& shape, double area, size_t swell);

/// The angle after which the outline looks the same again, in radians; 0 where it always does.
double period_of(const ShapeRow& shape);

/// The angle of the dark mark within a spot of that shape, in radians, known up to half a turn: what the mark covers is
/// to be the darkest. The shape has a mark.
double mark_angle(const Spot& spot, const ShapeRow& shape, const media::Frames& clip, int64_t frame);

}  // namespace kinora::world
