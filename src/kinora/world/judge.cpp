#include "kinora/world/judge.h"

#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/world/paint.h"
#include "kinora/world/spot.h"
#include "kinora/world/tables.h"

namespace kinora::world {
namespace {

constexpr double kNearBackground = 22.0;  // median difference of the best background, in levels
constexpr double kNearColour = 75.0;      // distance to the palette, in levels, brightness down-weighted
constexpr int kErosions = 3;              // outline and soft edge

struct Size {
  int64_t height, width;
};

// Area and middle of a shape of radius 1, from a fine grid.
struct Moments {
  double area = 0.0, x = 0.0, y = 0.0;
};

Moments unit_moments(const ShapeRow& shape) {
  constexpr int kGrid = 96;
  constexpr double kStep = 3.0 / kGrid;
  Moments m;
  for (int i = 0; i < kGrid; ++i) {
    for (int j = 0; j < kGrid; ++j) {
      const double x = -1.5 + (j + 0.5) * kStep, y = -1.5 + (i + 0.5) * kStep;
      const double share = std::clamp(0.5 - shape.outline(x, y, 1.0) / kStep, 0.0, 1.0) * kStep * kStep;
      m.area += share, m.x += share * x, m.y += share * y;
    }
  }
  m.x /= m.area, m.y /= m.area;
  return m;
}

Mask eroded(const Mask& mask, Size size) {
  Mask out(mask.size(), 0);
  for (int64_t y = 1; y + 1 < size.height; ++y) {
    for (int64_t x = 1; x + 1 < size.width; ++x) {
      const auto p = static_cast<size_t>(y * size.width + x), row = static_cast<size_t>(size.width);
      out[p] = mask[p] & mask[p - 1] & mask[p + 1] & mask[p - row] & mask[p + row];
    }
  }
  return out;
}

double iou(const Spot& spot, const ShapeRow& shape, const Moments& unit, Size size) {
  const double radius = std::sqrt(spot.area / unit.area);
  const double x0 = spot.x - unit.x * radius, y0 = spot.y - unit.y * radius;
  int64_t both = 0, either = 0;
  for (int64_t y = 0; y < size.height; ++y) {
    for (int64_t x = 0; x < size.width; ++x) {
      const bool on = spot.mask[static_cast<size_t>(y * size.width + x)] != 0;
      const bool near = std::abs(x + 0.5 - x0) < 1.5 * radius && std::abs(y + 0.5 - y0) < 1.5 * radius;
      const bool want = near && shape.outline(x + 0.5 - x0, y + 0.5 - y0, radius) < 0.0;
      both += on && want ? 1 : 0;
      either += on || want ? 1 : 0;
    }
  }
  return either == 0 ? 0.0 : static_cast<double>(both) / static_cast<double>(either);
}

double colour_distance(const std::array<double, 3>& a, const Rgb& b) {
  constexpr double kBrightness = 0.3;  // a dim red is still red
  double d[3], mean = 0.0, rest = 0.0;
  for (size_t c = 0; c < 3; ++c) d[c] = a[c] - b[c], mean += d[c] / 3.0;
  for (const double v : d) rest += (v - mean) * (v - mean);
  return std::sqrt(rest + kBrightness * 3.0 * mean * mean);
}

std::string nearest_colour(const WorldConfig& config, const std::array<double, 3>& rgb) {
  std::string best = "none";
  double least = kNearColour;
  for (const auto& name : config.colours) {
    const double d = colour_distance(rgb, colour_row(name).rgb);
    if (d < least) least = d, best = name;
  }
  return best;
}

// The median of the object's inside over all frames; "none" unless half of the inside is of that colour.
std::string read_colour(const WorldConfig& config, const media::Frames& clip, const std::vector<Spot>& spots) {
  const Size size{clip.height, clip.width};
  std::array<std::vector<uint8_t>, 3> inside;
  for (int64_t f = 0; f < clip.frames; ++f) {
    if (spots[static_cast<size_t>(f)].mask.empty()) continue;
    Mask mask = spots[static_cast<size_t>(f)].mask;
    for (int i = 0; i < kErosions; ++i) mask = eroded(mask, size);
    for (size_t p = 0; p < mask.size(); ++p) {
      for (size_t c = 0; mask[p] && c < 3; ++c) inside[c].push_back(clip.frame(f)[p * 3 + c]);
    }
  }
  if (inside[0].empty()) return "none";
  std::array<double, 3> median{};
  for (size_t c = 0; c < 3; ++c) {
    std::vector<uint8_t> sorted = inside[c];
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<int64_t>(sorted.size() / 2), sorted.end());
    median[c] = sorted[sorted.size() / 2];
  }
  const std::string name = nearest_colour(config, median);
  if (name == "none") return name;
  int64_t agree = 0;
  for (size_t i = 0; i < inside[0].size(); ++i) {
    const std::array<double, 3> rgb = {double(inside[0][i]), double(inside[1][i]), double(inside[2][i])};
    agree += nearest_colour(config, rgb) == name ? 1 : 0;
  }
  return 2 * agree >= static_cast<int64_t>(inside[0].size()) ? name : "none";
}

// Gradients of the clip projected on those of a render of what was read, near the outline. A blurred edge lowers it, so
// does an outline that is missing or elsewhere; noise, which goes both ways, does not raise it.
struct Projection {
  double both = 0.0, render = 0.0;
};

Projection edges(const uint8_t* frame, const Figure& figure, double outline_px, const Backdrop& backdrop, Size size) {
  constexpr double kBandPx = 3.0;
  std::vector<uint8_t> truth = backdrop.picture;
  paint_figure(figure, outline_px, truth.data(), size.height, size.width);
  Projection sum;
  for (int64_t y = 1; y + 1 < size.height; ++y) {
    for (int64_t x = 1; x + 1 < size.width; ++x) {
      if (std::abs(figure.shape->outline(x + 0.5 - figure.x_px, y + 0.5 - figure.y_px, figure.radius_px)) > kBandPx)
        continue;
      for (const int64_t step : {int64_t{3}, size.width * 3}) {
        for (int64_t c = 0; c < 3; ++c) {
          const int64_t at = (y * size.width + x) * 3 + c;
          const double seen = frame[at + step] - frame[at - step];
          const double want = truth[static_cast<size_t>(at + step)] - truth[static_cast<size_t>(at - step)];
          sum.both += seen * want;
          sum.render += want * want;
        }
      }
    }
  }
  return sum;
}

std::string read_size(const WorldConfig& config, double radius) {
  std::string best = "none";
  double least = 0.25;  // how far beyond a range a radius may lie, as a share
  for (const SizeRange& size : config.sizes) {
    const double beyond = std::max({0.0, radius / size.max_radius_px - 1.0, 1.0 - radius / size.min_radius_px});
    if (beyond < least) least = beyond, best = size.name;
  }
  return best;
}

void read_shape(const WorldConfig& config, const media::Frames& clip, const Backdrop& backdrop,
                const std::vector<Spot>& spots, Verdict& v) {
  const Size size{clip.height, clip.width};
  std::vector<Moments> units;
  std::vector<double> total(config.shapes.size(), 0.0);
  std::vector<int> votes(config.shapes.size(), 0);
  for (const auto& name : config.shapes) units.push_back(unit_moments(shape_row(name)));
  int seen = 0;
  for (const Spot& spot : spots) {
    if (spot.mask.empty()) continue;
    ++seen;
    size_t best = 0;
    std::vector<double> own;
    for (size_t s = 0; s < units.size(); ++s) {
      own.push_back(iou(spot, shape_row(config.shapes[s]), units[s], size));
      total[s] += own[s];
      if (own[s] > own[best]) best = s;
    }
    ++votes[best];
  }
  const auto best = static_cast<size_t>(std::max_element(total.begin(), total.end()) - total.begin());
  double second = 0.0;
  for (size_t s = 0; s < total.size(); ++s) second = s == best ? second : std::max(second, total[s]);
  v.iou = total[best] / seen;
  v.lead = (total[best] - second) / seen;
  v.agreement = static_cast<double>(votes[best]) / seen;

  const ShapeRow& shape = shape_row(config.shapes[best]);
  const bool coloured = v.colour != "none";
  Projection sum;
  std::vector<double> radii;
  for (size_t f = 0; f < spots.size(); ++f) {
    if (spots[f].mask.empty()) continue;
    const double radius = std::sqrt(spots[f].area / units[best].area);
    radii.push_back(radius);
    if (!coloured) continue;
    const Figure figure{&shape, colour_row(v.colour).rgb, spots[f].x - units[best].x * radius,
                        spots[f].y - units[best].y * radius, radius};
    const Projection p = edges(clip.frame(static_cast<int64_t>(f)), figure, config.outline_px, backdrop, size);
    sum.both += p.both;
    sum.render += p.render;
  }
  v.sharpness = sum.render > 0.0 ? sum.both / sum.render : 0.0;
  std::sort(radii.begin(), radii.end());
  v.size = read_size(config, radii[radii.size() / 2]);
  const bool clear =
      v.iou >= kLeastIou && v.lead >= kLeastLead && v.agreement >= kLeastAgreement && v.sharpness >= kLeastSharpness;
  if (clear) v.shape = shape.name;
}

void read_motion(const WorldConfig& config, const std::vector<Spot>& spots, Verdict& v) {
  Track track;
  for (size_t f = 0; f < spots.size(); ++f) {
    if (spots[f].mask.empty()) continue;
    if (!track.x.empty())
      v.worst_step_px = std::max(v.worst_step_px, std::hypot(spots[f].x - track.x.back(), spots[f].y - track.y.back()));
    track.frame.push_back(static_cast<double>(f));
    track.x.push_back(spots[f].x);
    track.y.push_back(spots[f].y);
    track.radius.push_back(std::sqrt(spots[f].area / 3.141592653589793));
  }
  for (const auto& name : config.motions) {
    if (motion_row(name).shown(track, config.min_speed_px, config.max_speed_px)) {
      v.motion = name;
      return;
    }
  }
}

}  // namespace

Verdict judge(const WorldConfig& config, const media::Frames& clip) {
  media::check(clip);
  if (clip.height != config.height || clip.width != config.width) {
    throw UsageError(concat("the judge expects pictures of ", config.width, "x", config.height, " but the clip has ",
                            clip.width, "x", clip.height));
  }
  Verdict v;
  const Backdrop backdrop = find_backdrop(config, clip);
  if (backdrop.difference <= kNearBackground) v.background = backdrop.row->name;

  double least = 1e18, most = 0.0;  // plausible areas
  for (const auto& name : config.shapes) {
    const double unit = unit_moments(shape_row(name)).area;
    for (const SizeRange& range : config.sizes) {
      least = std::min(least, 0.55 * unit * range.min_radius_px * range.min_radius_px);
      most = std::max(most, 1.6 * unit * range.max_radius_px * range.max_radius_px);
    }
  }
  std::vector<Spot> spots;
  int present = 0, single = 0;
  for (int64_t f = 0; f < clip.frames; ++f) {
    Spot spot = find_object(clip, f, backdrop);
    if (spot.area < least || spot.area > most) spot = {};
    if (!spot.mask.empty()) {
      ++present;
      single += spot.single ? 1 : 0;
    }
    spots.push_back(std::move(spot));
  }
  v.presence = static_cast<double>(present) / static_cast<double>(clip.frames);
  v.single = present ? static_cast<double>(single) / present : 0.0;
  if (v.presence < kLeastPresence) return v;
  v.colour = read_colour(config, clip, spots);
  if (v.single < kLeastSingle) return v;
  read_shape(config, clip, backdrop, spots, v);
  read_motion(config, spots, v);
  return v;
}

Score compare(const Verdict& verdict, const Scene& scene) {
  return {verdict.shape == scene.shape, verdict.colour == scene.colour, verdict.motion == scene.motion,
          verdict.background == scene.background, scene.size.empty() || verdict.size == scene.size};
}

}  // namespace kinora::world
