#include "kinora/world/place.h"

#include <algorithm>
#include <cmath>

namespace kinora::world {
namespace {

constexpr double kMarginPx = 1.5;  // between the object's box and the border: soft edges reach beyond a sharp corner
constexpr double kGapPx = 4.0;     // between two objects: blurred, they must still be two
constexpr int kTries = 400;

/// A place from `low` to `high`: on the grid, or the middle where the grid has none there.
double start(double low, double high, double grid, Random& random) {
  if (grid <= 0.0) return random.uniform(low, high);
  const double first = std::ceil(low / grid), last = std::floor(high / grid);
  if (first > last) return (low + high) / 2;
  return grid * (first + static_cast<double>(random.below(static_cast<uint64_t>(last - first) + 1)));
}

}  // namespace

Box path_box(const WorldConfig& config, const ShapeRow& shape, const MotionRow& motion, double radius_px,
             double speed_px) {
  const Form& form = shape.form;
  Box box{{1e9, -1e9}, {1e9, -1e9}};
  const auto extend = [](Reach& reach, double middle, double before, double behind) {
    reach.low = std::min(reach.low, middle - before - kMarginPx);
    reach.high = std::max(reach.high, middle + behind + kMarginPx);
  };
  for (int64_t frame = 0; frame < config.frames; ++frame) {
    const Pose pose = motion.pose(static_cast<double>(frame), speed_px);
    const double radius = radius_px * pose.scale;
    const bool turned = pose.angle != 0.0;
    extend(box.x, pose.x, radius * (turned ? form.reach : form.left), radius * (turned ? form.reach : form.right));
    extend(box.y, pose.y, radius * (turned ? form.reach : form.top), radius * (turned ? form.reach : form.bottom));
  }
  return box;
}

Object place(const WorldConfig& config, Object object, const SizeRange& size, Random& random) {
  object.size = size.name;
  object.radius_px = random.uniform(size.min_radius_px, size.max_radius_px);
  object.speed_px = random.uniform(config.min_speed_px, config.max_speed_px);
  const Box box =
      path_box(config, shape_row(object.shape), motion_row(object.motion), object.radius_px, object.speed_px);
  object.x_px = start(-box.x.low, static_cast<double>(config.width) - box.x.high, config.grid_px, random);
  object.y_px = start(-box.y.low, static_cast<double>(config.height) - box.y.high, config.grid_px, random);
  return object;
}

bool are_apart(const WorldConfig& config, const Object& a, const Object& b) {
  const MotionRow &motion_a = motion_row(a.motion), &motion_b = motion_row(b.motion);
  const double reach_a = shape_row(a.shape).form.reach, reach_b = shape_row(b.shape).form.reach;
  for (int64_t frame = 0; frame < config.frames; ++frame) {
    const Pose pose_a = motion_a.pose(static_cast<double>(frame), a.speed_px);
    const Pose pose_b = motion_b.pose(static_cast<double>(frame), b.speed_px);
    const double dx = a.x_px + pose_a.x - b.x_px - pose_b.x, dy = a.y_px + pose_a.y - b.y_px - pose_b.y;
    const double least = reach_a * a.radius_px * pose_a.scale + reach_b * b.radius_px * pose_b.scale + kGapPx;
    if (dx * dx + dy * dy < least * least) return false;
  }
  return true;
}

std::optional<std::pair<Object, Object>> place_apart(const WorldConfig& config, const Object& a, const Object& b,
                                                     const SizeRange& size, Random& random) {
  for (int i = 0; i < kTries; ++i) {
    std::pair<Object, Object> both = {place(config, a, size, random), place(config, b, size, random)};
    if (are_apart(config, both.first, both.second)) return both;
  }
  return std::nullopt;
}

}  // namespace kinora::world
