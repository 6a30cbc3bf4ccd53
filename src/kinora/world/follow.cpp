#include "kinora/world/follow.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kinora/world/tables.h"

namespace kinora::world {
namespace {

constexpr double kFurtherThing = 0.12;  // area of a thing beyond the objects, as a share of the smallest of them

struct AreaRange {
  double least = 1e18, most = 0.0;
};

// Of all objects that the world can hold, at any time.
AreaRange plausible_areas(const WorldConfig& config) {
  double scale = 1.0;
  for (const auto& name : config.motions)
    scale = std::max(scale, motion_row(name).pose(static_cast<double>(config.frames - 1), config.max_speed_px).scale);
  AreaRange range;
  for (const auto& name : config.shapes) {
    const double unit = shape_row(name).form.area;
    for (const SizeRange& size : config.sizes) {
      range.least = std::min(range.least, 0.55 * unit * size.min_radius_px * size.min_radius_px);
      range.most = std::max(range.most, 1.6 * unit * size.max_radius_px * size.max_radius_px * scale * scale);
    }
  }
  return range;
}

// Links each frame's things to two objects by where they were last and by their colour, which in a pair differs.
std::vector<Spots> link(const media::Frames& clip, std::vector<std::vector<Spot>> things) {
  std::vector<Spots> objects(2);
  struct Last {
    bool known = false;
    double x = 0, y = 0;
    std::array<double, 3> colour{};
  } last[2];
  const auto cost = [](const Spot& spot, const std::array<double, 3>& colour, const Last& from) {
    constexpr double kPx = 10.0, kLevels = 40.0;  // a step and a difference that weigh the same
    if (!from.known) return 0.0;
    return std::hypot(spot.x - from.x, spot.y - from.y) / kPx + colour_distance(colour, from.colour) / kLevels;
  };
  for (size_t f = 0; f < things.size(); ++f) {
    std::vector<Spot>& now = things[f];
    std::array<double, 3> colour[2];
    for (size_t i = 0; i < now.size(); ++i) {
      Pixels inside;
      add_inside(inside, clip, static_cast<int64_t>(f), now[i]);
      colour[i] = median_of(inside);
    }
    size_t first = 0;  // the object that the larger thing is
    if (now.size() == 2) {
      first = cost(now[0], colour[0], last[0]) + cost(now[1], colour[1], last[1]) <=
                      cost(now[0], colour[0], last[1]) + cost(now[1], colour[1], last[0])
                  ? 0
                  : 1;
    } else if (now.size() == 1 && last[0].known && last[1].known) {
      first = cost(now[0], colour[0], last[0]) <= cost(now[0], colour[0], last[1]) ? 0 : 1;
    }
    for (Spots& spots : objects) spots.emplace_back();
    for (size_t i = 0; i < now.size(); ++i) {
      const size_t which = i == 0 ? first : 1 - first;
      last[which] = {true, now[i].x, now[i].y, colour[i]};
      objects[which].back() = std::move(now[i]);
    }
  }
  return objects;
}

}  // namespace

Sighting follow(const WorldConfig& config, const media::Frames& clip, const Backdrop& backdrop) {
  const AreaRange range = plausible_areas(config);
  std::vector<std::vector<Spot>> things;  // of each frame, the largest first
  int64_t pairs = 0;
  for (int64_t f = 0; f < clip.frames; ++f) {
    things.push_back(find_spots(clip, f, backdrop, 3));
    pairs += things.back().size() >= 2 && things.back()[1].area >= range.least ? 1 : 0;
  }
  const size_t objects = config.pairs > 0.0 && 2 * pairs > clip.frames ? 2 : 1;
  int64_t present = 0, single = 0;
  for (std::vector<Spot>& now : things) {
    std::vector<Spot> plausible;
    for (size_t i = 0; i < std::min(objects, now.size()); ++i) {
      if (now[i].area >= range.least && now[i].area <= range.most) plausible.push_back(now[i]);
    }
    if (!plausible.empty()) {
      ++present;
      single += now.size() <= objects || now[objects].area < kFurtherThing * now[objects - 1].area ? 1 : 0;
    }
    now = std::move(plausible);
  }
  Sighting sighting;
  sighting.single = present ? static_cast<double>(single) / static_cast<double>(present) : 0.0;
  if (objects == 2) {
    sighting.objects = link(clip, std::move(things));
  } else {
    sighting.objects.resize(1);
    for (std::vector<Spot>& now : things) sighting.objects[0].push_back(now.empty() ? Spot{} : std::move(now[0]));
  }
  return sighting;
}

}  // namespace kinora::world
