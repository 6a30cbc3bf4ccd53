#include "kinora/world/outline.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace kinora::world {
namespace {

constexpr double kPi = 3.141592653589793;
constexpr int kViews = 120;    // of a full turn: 3 degrees apart, so that the periods of 2 to 6 points are whole views
constexpr int kCells = 64;     // of a view's side, one bit each
constexpr double kSide = 2.5;  // of a view, in roots of the area

/// A spot or a shape of area 1 around its middle.
struct View {
  std::array<uint64_t, kCells> rows{};
  int cells = 0;
};

template <typename Inside>
View view_of(Inside inside) {
  View view;
  for (int i = 0; i < kCells; ++i) {
    for (int j = 0; j < kCells; ++j) {
      const double x = ((j + 0.5) / kCells - 0.5) * kSide, y = ((i + 0.5) / kCells - 0.5) * kSide;
      if (inside(x, y)) view.rows[static_cast<size_t>(i)] |= uint64_t{1} << j, ++view.cells;
    }
  }
  return view;
}

double iou(const View& a, const View& b) {
  int both = 0;
  for (size_t i = 0; i < kCells; ++i) both += std::popcount(a.rows[i] & b.rows[i]);
  return both == 0 ? 0.0 : static_cast<double>(both) / (a.cells + b.cells - both);
}

/// Whether the shape, turned and of that radius, covers the point; both from its middle.
bool covers(Distance outline, const Form& form, double swell, double x, double y, double radius, double cosine,
            double sine) {
  const double u = form.x * radius + cosine * x + sine * y, v = form.y * radius + cosine * y - sine * x;
  return outline(u, v, radius) < swell * radius;
}

struct Views {
  std::array<Form, kSwells.size()> forms;  ///< for each swell
  std::vector<View> turned;                ///< over one period
  double period = 0.0;
};

// Made once: a clip needs them for each of its frames.
const Views& views_of(const ShapeRow& shape) {
  static const std::vector<Views> all = [] {
    constexpr double kSame = 0.9;
    std::vector<Views> made;
    for (const ShapeRow& row : shape_rows()) {
      Views views{{}, {}, 2.0 * kPi};
      for (size_t i = 0; i < kSwells.size(); ++i) views.forms[i] = measure(row.outline, kSwells[i]);
      const double radius = 1.0 / std::sqrt(views.forms[0].area);
      for (int k = 0; k < kViews; ++k) {
        const double angle = 2.0 * kPi * k / kViews, cosine = std::cos(angle), sine = std::sin(angle);
        views.turned.push_back(view_of(
            [&](double x, double y) { return covers(row.outline, views.forms[0], 0.0, x, y, radius, cosine, sine); }));
      }
      const auto repeats = [&](int views_apart) {
        return iou(views.turned[0], views.turned[static_cast<size_t>(views_apart)]) > kSame;
      };
      int apart = kViews;
      for (const int points : {2, 3, 4, 5, 6}) {
        if (repeats(kViews / points)) apart = kViews / points;
      }
      if (repeats(kViews / 7) && repeats(kViews / 11)) apart = 1;  // round
      views.turned.resize(static_cast<size_t>(apart));
      views.period = apart == 1 ? 0.0 : 2.0 * kPi * apart / kViews;
      made.push_back(std::move(views));
    }
    return made;
  }();
  return all[static_cast<size_t>(&shape - shape_rows().data())];
}

}  // namespace

double iou_with(const Spot& spot, const ShapeRow& shape, size_t swell, double angle) {
  const Form& form = views_of(shape).forms[swell];
  const double radius = std::sqrt(spot.area / form.area), reach = form.reach * radius + 1.0;
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const auto low = [&](double middle, int64_t edge) {
    return std::min(edge, static_cast<int64_t>(std::floor(middle - reach)));
  };
  const auto high = [&](double middle, int64_t edge) {
    return std::max(edge, static_cast<int64_t>(std::ceil(middle + reach)));
  };
  int64_t both = 0, either = 0;
  for (int64_t y = low(spot.y, spot.top); y < high(spot.y, spot.top + spot.height); ++y) {
    for (int64_t x = low(spot.x, spot.left); x < high(spot.x, spot.left + spot.width); ++x) {
      const int64_t column = x - spot.left, row = y - spot.top;
      const bool within = column >= 0 && row >= 0 && column < spot.width && row < spot.height;
      const bool on = within && spot.mask[static_cast<size_t>(row * spot.width + column)] != 0;
      const bool want = covers(shape.outline, form, kSwells[swell], static_cast<double>(x) + 0.5 - spot.x,
                               static_cast<double>(y) + 0.5 - spot.y, radius, cosine, sine);
      both += on && want ? 1 : 0;
      either += on || want ? 1 : 0;
    }
  }
  return either == 0 ? 0.0 : static_cast<double>(both) / static_cast<double>(either);
}

std::vector<double> best_angles(const Spot& spot, const std::vector<const ShapeRow*>& shapes) {
  const double unit = std::sqrt(spot.area);
  const View seen = view_of([&](double x, double y) {
    const auto column = static_cast<int64_t>(std::floor(spot.x + x * unit)) - spot.left;
    const auto row = static_cast<int64_t>(std::floor(spot.y + y * unit)) - spot.top;
    return column >= 0 && row >= 0 && column < spot.width && row < spot.height &&
           spot.mask[static_cast<size_t>(row * spot.width + column)] != 0;
  });
  std::vector<double> angles;
  for (const ShapeRow* shape : shapes) {
    double best = -1.0;
    size_t which = 0;
    const std::vector<View>& turned = views_of(*shape).turned;
    for (size_t k = 0; k < turned.size(); ++k) {
      const double next = iou(seen, turned[k]);
      if (next > best) best = next, which = k;
    }
    angles.push_back(2.0 * kPi * static_cast<double>(which) / kViews);
  }
  return angles;
}

double radius_of(const ShapeRow& shape, double area, size_t swell) {
  return std::sqrt(area / views_of(shape).forms[swell].area);
}

double period_of(const ShapeRow& shape) { return views_of(shape).period; }

double mark_angle(const Spot& spot, const ShapeRow& shape, const media::Frames& clip, int64_t frame) {
  constexpr int kAngles = 60;
  constexpr double kInside = 0.74;  // of the radius: the outline is dark, too
  const double radius = std::sqrt(spot.area / shape.form.area);
  struct Point {
    double x, y, light;
  };
  std::vector<Point> points;
  double mean = 0.0;
  const auto reach = static_cast<int64_t>(std::ceil(radius));
  const auto column = static_cast<int64_t>(spot.x), row = static_cast<int64_t>(spot.y);
  for (int64_t y = std::max<int64_t>(0, row - reach); y <= std::min(clip.height - 1, row + reach); ++y) {
    for (int64_t x = std::max<int64_t>(0, column - reach); x <= std::min(clip.width - 1, column + reach); ++x) {
      const double dx = static_cast<double>(x) + 0.5 - spot.x, dy = static_cast<double>(y) + 0.5 - spot.y;
      if (dx * dx + dy * dy > kInside * kInside * radius * radius) continue;
      const uint8_t* pixel = clip.frame(frame) + (y * clip.width + x) * 3;
      points.push_back({dx, dy, static_cast<double>(pixel[0] + pixel[1] + pixel[2])});
      mean += points.back().light;
    }
  }
  mean /= std::max<double>(1.0, static_cast<double>(points.size()));
  double best = -1e18, angle = 0.0;
  for (int k = 0; k < kAngles; ++k) {
    const double next = kPi * k / kAngles, cosine = std::cos(next), sine = std::sin(next);
    double covered = 0.0, darkness = 0.0;
    for (const Point& p : points) {
      const double u = shape.form.x * radius + cosine * p.x + sine * p.y;
      const double v = shape.form.y * radius + cosine * p.y - sine * p.x;
      const double share = std::clamp(0.5 - shape.mark(u, v, radius), 0.0, 1.0);
      covered += share, darkness += share * (mean - p.light);
    }
    const double score = covered > 0.0 ? darkness / covered : 0.0;
    if (score > best) best = score, angle = next;
  }
  return angle;
}

}  // namespace kinora::world
