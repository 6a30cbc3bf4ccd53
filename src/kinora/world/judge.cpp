#include "kinora/world/judge.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/world/follow.h"
#include "kinora/world/outline.h"
#include "kinora/world/paint.h"
#include "kinora/world/tables.h"

namespace kinora::world {
namespace {

constexpr double kNearBackground = 22.0;  // median difference of the best background, in levels
constexpr double kNearColour = 75.0;      // distance to the palette, in levels, brightness down-weighted

std::string nearest_colour(const WorldConfig& config, const std::array<double, 3>& seen) {
  std::string best = "none";
  double least = kNearColour;
  for (const auto& name : config.colours) {
    const Rgb& rgb = colour_row(name).rgb;
    const double d = colour_distance(seen, {double(rgb[0]), double(rgb[1]), double(rgb[2])});
    if (d < least) least = d, best = name;
  }
  return best;
}

// The median of the object's inside over all frames; "none" unless half of the inside is of that colour.
std::string read_colour(const WorldConfig& config, const media::Frames& clip, const Spots& spots) {
  Pixels inside;
  for (int64_t f = 0; f < clip.frames; ++f) {
    if (!spots[static_cast<size_t>(f)].empty()) add_inside(inside, clip, f, spots[static_cast<size_t>(f)]);
  }
  if (inside[0].empty()) return "none";
  const std::string name = nearest_colour(config, median_of(inside));
  if (name == "none") return name;
  constexpr size_t kEvery = 3;  // of the pixels: enough for a share
  size_t agree = 0, all = 0;
  for (size_t i = 0; i < inside[0].size(); i += kEvery, ++all)
    agree += nearest_colour(config, {double(inside[0][i]), double(inside[1][i]), double(inside[2][i])}) == name;
  return 2 * agree >= all ? name : "none";
}

// Gradients of the clip projected on those of a render of what was read, near the outline. A blurred edge lowers it, so
// does an outline that is missing or elsewhere; noise, which goes both ways, does not raise it.
struct Projection {
  double both = 0.0, render = 0.0;
};

Projection edges(const media::Frames& clip, int64_t index, const Figure& figure, double outline_px,
                 const Backdrop& backdrop) {
  constexpr double kBandPx = 3.0;
  const uint8_t* frame = clip.frame(index);
  std::vector<uint8_t> truth = backdrop.picture;
  paint_figure(figure, outline_px, truth.data(), clip.height, clip.width);
  const Form& form = figure.shape->form;
  const double reach = form.reach * figure.radius_px + kBandPx + 1.0;
  const double cosine = std::cos(figure.angle), sine = std::sin(figure.angle);
  const auto low = [&](double middle) { return std::max<int64_t>(1, static_cast<int64_t>(middle - reach)); };
  const auto high = [&](double middle, int64_t size) {
    return std::min(size - 1, static_cast<int64_t>(std::ceil(middle + reach)));
  };
  Projection sum;
  for (int64_t y = low(figure.y_px); y < high(figure.y_px, clip.height); ++y) {
    for (int64_t x = low(figure.x_px); x < high(figure.x_px, clip.width); ++x) {
      const double dx = static_cast<double>(x) + 0.5 - figure.x_px, dy = static_cast<double>(y) + 0.5 - figure.y_px;
      const double u = form.x * figure.radius_px + cosine * dx + sine * dy;
      const double v = form.y * figure.radius_px + cosine * dy - sine * dx;
      if (std::abs(figure.shape->outline(u, v, figure.radius_px)) > kBandPx) continue;
      for (const int64_t step : {int64_t{3}, clip.width * 3}) {
        for (int64_t c = 0; c < 3; ++c) {
          const int64_t at = (y * clip.width + x) * 3 + c;
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
    const double beyond = std::max({0.0, size.min_radius_px / radius - 1.0, radius / size.max_radius_px - 1.0});
    if (beyond < least) least = beyond, best = size.name;
  }
  return best;
}

/// How one shape fits the frames that show the object: turned by `angle`, IoU for the swell that suits them best.
struct Shape {
  const ShapeRow* row = nullptr;
  std::vector<double> angle, iou;
  size_t swell = 0;
  double mean_iou = 0.0;
};

// The swell is chosen on some of the frames.
Shape fit_shape(const std::vector<const Spot*>& seen, const ShapeRow* row, std::vector<double> angle) {
  constexpr size_t kEvery = 4;
  Shape shape{row, std::move(angle), {}, 0, 0.0};
  double most = 0.0;
  for (size_t swell = 0; swell < kSwells.size(); ++swell) {
    double sum = 0.0;
    for (size_t i = 0; i < seen.size(); i += kEvery) sum += iou_with(*seen[i], *row, swell, shape.angle[i]);
    if (sum > most) most = sum, shape.swell = swell;
  }
  for (size_t i = 0; i < seen.size(); ++i) {
    shape.iou.push_back(iou_with(*seen[i], *row, shape.swell, shape.angle[i]));
    shape.mean_iou += shape.iou[i] / static_cast<double>(seen.size());
  }
  return shape;
}

// Turned fits count only where they are better by far: any blob becomes somewhat more like a shape by turning it.
Shape read_shape(const WorldConfig& config, const Spots& spots, bool may_turn, Reading& reading) {
  constexpr double kTurnedLead = 0.04;
  std::vector<const ShapeRow*> rows;
  for (const auto& name : config.shapes) rows.push_back(&shape_row(name));
  std::vector<const Spot*> seen;
  std::vector<std::vector<double>> angles(rows.size());
  for (const Spot& spot : spots) {
    if (spot.empty()) continue;
    seen.push_back(&spot);
    if (!may_turn) continue;
    const std::vector<double> best = best_angles(spot, rows);
    for (size_t s = 0; s < rows.size(); ++s) angles[s].push_back(best[s]);
  }
  std::vector<Shape> shapes;
  for (size_t s = 0; s < rows.size(); ++s) {
    shapes.push_back(fit_shape(seen, rows[s], std::vector<double>(seen.size(), 0.0)));
    if (!may_turn) continue;
    Shape turned = fit_shape(seen, rows[s], std::move(angles[s]));
    if (turned.mean_iou > shapes[s].mean_iou + kTurnedLead) shapes[s] = std::move(turned);
  }
  std::stable_sort(shapes.begin(), shapes.end(),
                   [](const Shape& a, const Shape& b) { return a.mean_iou > b.mean_iou; });
  const Shape& best = shapes[0];
  size_t votes = 0;
  for (size_t i = 0; i < seen.size(); ++i) {
    votes +=
        std::all_of(shapes.begin() + 1, shapes.end(), [&](const Shape& other) { return other.iou[i] < best.iou[i]; });
  }
  reading.iou = best.mean_iou;
  reading.lead = shapes.size() > 1 ? best.mean_iou - shapes[1].mean_iou : best.mean_iou;
  reading.agreement = static_cast<double>(votes) / static_cast<double>(seen.size());
  return best;
}

// Sets the swell to the one whose edges lie where the clip's are: a round or square spot fits any swell.
double read_sharpness(const WorldConfig& config, const media::Frames& clip, const Backdrop& backdrop,
                      const Spots& spots, Shape& shape, const std::string& colour) {
  if (colour == "none") return 0.0;
  double best = -1.0;
  for (size_t swell = 0; swell < kSwells.size(); ++swell) {
    Projection sum;
    for (size_t f = 0, seen = 0; f < spots.size(); ++f) {
      if (spots[f].empty()) continue;
      const double radius = radius_of(*shape.row, spots[f].area, swell), angle = shape.angle[seen++];
      const Figure figure{shape.row, colour_row(colour).rgb, spots[f].x, spots[f].y, radius, angle};
      const Projection p = edges(clip, static_cast<int64_t>(f), figure, config.outline_px, backdrop);
      sum.both += p.both;
      sum.render += p.render;
    }
    const double sharpness = sum.render > 0.0 ? sum.both / sum.render : 0.0;
    if (sharpness > best) best = sharpness, shape.swell = swell;
  }
  return best;
}

Track track_of(const media::Frames& clip, const Spots& spots, const Shape& shape, bool may_turn) {
  Track track;
  const bool marked = shape.row->mark != nullptr;
  track.period = marked ? 3.141592653589793 : period_of(*shape.row);
  for (size_t f = 0; f < spots.size(); ++f) {
    if (spots[f].empty()) continue;
    track.frame.push_back(static_cast<double>(f));
    track.x.push_back(spots[f].x);
    track.y.push_back(spots[f].y);
    track.radius.push_back(radius_of(*shape.row, spots[f].area, shape.swell));
    if (!may_turn) continue;
    track.angle.push_back(marked ? mark_angle(spots[f], *shape.row, clip, static_cast<int64_t>(f))
                                 : shape.angle[track.frame.size() - 1]);
  }
  return track;
}

// The size at the start: what grows tells it by its first frames.
std::string read_size(const WorldConfig& config, const Track& track, const std::string& motion) {
  const double speed = 0.5 * (config.min_speed_px + config.max_speed_px);
  std::vector<double> radii;
  for (size_t i = 0; i < track.radius.size(); ++i) {
    const double scale = motion == "none" ? 1.0 : motion_row(motion).pose(track.frame[i], speed).scale;
    radii.push_back(track.radius[i] / scale);
  }
  std::sort(radii.begin(), radii.end());
  return read_size(config, radii[radii.size() / 2]);
}

void read_object(const WorldConfig& config, const media::Frames& clip, const Backdrop& backdrop, const Spots& spots,
                 bool single, Reading& reading) {
  const auto absent = std::count_if(spots.begin(), spots.end(), [](const Spot& spot) { return spot.empty(); });
  reading.presence = 1.0 - static_cast<double>(absent) / static_cast<double>(clip.frames);
  if (reading.presence < kLeastPresence) return;
  reading.colour = read_colour(config, clip, spots);
  if (!single) return;
  const bool may_turn = std::any_of(config.motions.begin(), config.motions.end(),
                                    [](const std::string& name) { return turns(motion_row(name)); });
  Shape shape = read_shape(config, spots, may_turn, reading);
  reading.sharpness = read_sharpness(config, clip, backdrop, spots, shape, reading.colour);
  const bool clear = reading.iou >= kLeastIou && reading.lead >= kLeastLead && reading.agreement >= kLeastAgreement &&
                     reading.sharpness >= kLeastSharpness;
  if (clear) reading.shape = shape.row->name;

  const Track track = track_of(clip, spots, shape, may_turn);
  for (size_t i = 1; i < track.x.size(); ++i)
    reading.worst_step_px =
        std::max(reading.worst_step_px, std::hypot(track.x[i] - track.x[i - 1], track.y[i] - track.y[i - 1]));
  for (const auto& name : config.motions) {
    if (!motion_row(name).shown(track, config.min_speed_px, config.max_speed_px)) continue;
    reading.motion = name;
    break;
  }
  reading.size = read_size(config, track, reading.motion);
}

Score compare(const Verdict& verdict, const Scene& scene, size_t first) {
  Score score{true, true, true, verdict.background == scene.background, true};
  for (size_t i = 0; i < scene.objects.size(); ++i) {
    const Object& object = scene.objects[i];
    const Reading& reading = verdict.objects[(first + i) % verdict.objects.size()];
    score.shape &= reading.shape == object.shape;
    score.colour &= reading.colour == object.colour;
    score.motion &= reading.motion == object.motion;
    score.size &= object.size.empty() || reading.size == object.size;
  }
  return score;
}

}  // namespace

Verdict judge(const WorldConfig& config, const media::Frames& clip) {
  media::check(clip);
  if (clip.height != config.height || clip.width != config.width) {
    throw UsageError(concat("the judge expects pictures of ", config.width, "x", config.height, " but the clip has ",
                            clip.width, "x", clip.height));
  }
  Verdict verdict;
  const Backdrop backdrop = find_backdrop(config, clip);
  if (backdrop.difference <= kNearBackground) verdict.background = backdrop.row->name;
  const Sighting sighting = follow(config, clip, backdrop);
  verdict.single = sighting.single;
  for (const Spots& spots : sighting.objects) {
    verdict.objects.emplace_back();
    read_object(config, clip, backdrop, spots, verdict.single >= kLeastSingle, verdict.objects.back());
  }
  return verdict;
}

Score compare(const Verdict& verdict, const Scene& scene) {
  if (verdict.objects.size() != scene.objects.size()) return {.background = verdict.background == scene.background};
  const auto right = [](const Score& s) { return int{s.shape} + s.colour + s.motion + s.size; };
  Score best = compare(verdict, scene, 0);
  for (size_t first = 1; first < verdict.objects.size(); ++first) {
    const Score next = compare(verdict, scene, first);
    if (right(next) > right(best)) best = next;
  }
  return best;
}

}  // namespace kinora::world
