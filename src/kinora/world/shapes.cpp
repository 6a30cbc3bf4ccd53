// The shapes as signed distances. Half-plane distances instead of the exact ones outside of the corners keep the
// corners of outline and shape sharp. Parts are thick: at radius 10 a thin arm would be outline and nothing else.
#include <algorithm>
#include <cmath>

#include "kinora/world/tables.h"

namespace kinora::world {
namespace {

double length(double x, double y) { return std::sqrt(x * x + y * y); }  // std::hypot guards what cannot occur here

double ball(double x, double y, double radius) { return length(x, y) - radius; }

// Two seams as on a basketball, so that a turning ball is seen to turn. Dark, because a light one reads as background.
double ball_seams(double x, double y, double radius) {
  const double side = std::abs(x) - 1.25 * radius;
  return std::abs(length(side, y) - 0.85 * radius) - std::max(0.075 * radius, 0.95);
}

double square(double x, double y, double radius) { return std::max(std::abs(x), std::abs(y)) - 0.86 * radius; }

double triangle(double x, double y, double radius) {
  constexpr double kTop = 0.95, kBottom = 0.85, kHalfBase = 1.0;
  static const double side = std::hypot(kTop + kBottom, kHalfBase);
  const double slope = (std::abs(x) * (kTop + kBottom) - (y + kTop * radius) * kHalfBase) / side;
  return std::max(slope, y - kBottom * radius);
}

// Five points. The plane is folded twice, onto the half of the upper point that lies right of the middle; its
// edge runs from the tip to the notch.
double star(double x, double y, double radius) {
  constexpr double kTip = 1.16, kNotch = 0.58;
  constexpr double kCos36 = 0.8090169943749475, kSin36 = 0.5877852522924731;
  static const double side = std::hypot(kNotch * kSin36, kTip - kNotch * kCos36);
  x = std::abs(x), y = -y;
  const auto fold = [&](double nx, double ny) {  // onto the side where nx x + ny y <= 0
    const double beyond = std::max(0.0, nx * x + ny * y);
    x -= 2.0 * beyond * nx, y -= 2.0 * beyond * ny;
  };
  fold(kCos36, -kSin36);
  fold(-kCos36, -kSin36);
  x = std::abs(x);
  const double edge = (x * (kTip - kNotch * kCos36) + (y - kTip * radius) * kNotch * kSin36) / side;
  return std::max(edge, length(x, y) - kTip * radius);  // a tip's soft edge would reach far beyond the tip
}

double cross(double x, double y, double radius) {
  const double wide = std::abs(x), high = std::abs(y);
  return std::max(std::min(wide, high) - 0.4 * radius, std::max(wide, high) - radius);
}

// Two round lobes, and below them a wedge whose sides touch them.
double heart(double x, double y, double radius) {
  constexpr double kLobeX = 0.5, kLobeY = -0.36, kLobe = 0.58, kTip = 0.98;
  static const double far = std::hypot(kLobeX, kTip - kLobeY);
  // The side passes the tip and keeps the lobe's middle a lobe's radius inside: that is the angle of its normal.
  static const double turn = std::acos(-kLobe / far), axis = std::atan2(kLobeY - kTip, kLobeX);
  static const double nx = std::cos(axis + turn), ny = std::sin(axis + turn);
  static const double notch = kLobeY - std::sqrt(kLobe * kLobe - kLobeX * kLobeX);
  const double wide = std::abs(x);
  const double lobe = length(wide - kLobeX * radius, y - kLobeY * radius) - kLobe * radius;
  const double side = wide * nx + (y - kTip * radius) * ny;
  // Above the point of touch the side leaves the lobe behind; what lies between it and the lobe is no heart.
  const double above = (wide - kLobeX * radius) * ny - (y - kLobeY * radius) * nx;
  return std::min(lobe, std::max({side, above, notch * radius - y}));
}

}  // namespace

Form measure(Distance outline, double swell) {
  constexpr int kGrid = 160;
  constexpr double kStep = 3.0 / kGrid;
  Form form;
  double left = 9.0, right = -9.0, top = 9.0, bottom = -9.0;
  const auto each = [&](auto use) {
    for (int i = 0; i < kGrid; ++i) {
      for (int j = 0; j < kGrid; ++j) use(-1.5 + (j + 0.5) * kStep, -1.5 + (i + 0.5) * kStep);
    }
  };
  each([&](double x, double y) {
    const double distance = outline(x, y, 1.0) - swell;
    const double share = std::clamp(0.5 - distance / kStep, 0.0, 1.0) * kStep * kStep;
    form.area += share, form.x += share * x, form.y += share * y;
    if (distance > 0.0) return;
    left = std::min(left, x), right = std::max(right, x), top = std::min(top, y), bottom = std::max(bottom, y);
  });
  form.x /= form.area, form.y /= form.area;
  if (std::abs(form.x) < 1e-9) form.x = 0.0;
  each([&](double x, double y) {
    if (outline(x, y, 1.0) <= swell) form.reach = std::max(form.reach, length(x - form.x, y - form.y) + kStep / 2);
  });
  form.left = form.x - left + kStep / 2, form.right = right - form.x + kStep / 2;
  form.top = form.y - top + kStep / 2, form.bottom = bottom - form.y + kStep / 2;
  return form;
}

std::span<const ShapeRow> shape_rows() {
  static const std::vector<ShapeRow> rows = {
      {"ball", {"ball", "ball", "ball", "sphere", "round ball", "circle"}, ball, ball_seams},
      {"square", {"square", "square", "square", "box", "block"}, square, nullptr},
      {"triangle", {"triangle", "triangle", "triangle", "pyramid"}, triangle, nullptr},
      {"star", {"star", "star", "star", "pointed star"}, star, nullptr},
      {"cross", {"cross", "cross", "cross", "plus", "plus sign"}, cross, nullptr},
      {"heart", {"heart", "heart", "heart", "love heart"}, heart, nullptr},
  };
  return rows;
}

}  // namespace kinora::world
