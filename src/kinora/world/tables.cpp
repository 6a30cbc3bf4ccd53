#include "kinora/world/tables.h"

#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"

namespace kinora::world {
namespace {

double ball(double x, double y, double radius) { return std::hypot(x, y) - radius; }

// Two seams as on a basketball, so that a turning ball is seen to turn. Dark, because a light one reads as background.
double ball_seams(double x, double y, double radius) {
  const double side = std::abs(x) - 1.25 * radius;
  return std::abs(std::hypot(side, y) - 0.85 * radius) - 0.075 * radius;
}

// Half-plane distances instead of the exact ones outside of the corners keep the corners of outline and shape sharp.
double square(double x, double y, double radius) { return std::max(std::abs(x), std::abs(y)) - 0.86 * radius; }

double triangle(double x, double y, double radius) {
  constexpr double kTop = 0.95, kBottom = 0.85, kHalfBase = 1.0;
  static const double length = std::hypot(kTop + kBottom, kHalfBase);
  const double slope = (std::abs(x) * (kTop + kBottom) - (y + kTop * radius) * kHalfBase) / length;
  return std::max(slope, y - kBottom * radius);
}

Pose glide_left(double frame, double speed) { return {.x = -speed * frame}; }
Pose glide_right(double frame, double speed) { return {.x = speed * frame}; }
Pose glide_up(double frame, double speed) { return {.y = -speed * frame}; }
Pose glide_down(double frame, double speed) { return {.y = speed * frame}; }

struct Line {
  double slope = 0.0;
  double rms = 0.0;
};

Line fit(const std::vector<double>& t, const std::vector<double>& v) {
  const double n = static_cast<double>(t.size());
  double mean_t = 0, mean_v = 0, tt = 0, tv = 0, rest = 0;
  for (size_t i = 0; i < t.size(); ++i) mean_t += t[i] / n, mean_v += v[i] / n;
  for (size_t i = 0; i < t.size(); ++i) {
    tt += (t[i] - mean_t) * (t[i] - mean_t);
    tv += (t[i] - mean_t) * (v[i] - mean_v);
  }
  const double slope = tt > 0 ? tv / tt : 0.0;
  for (size_t i = 0; i < t.size(); ++i) {
    const double miss = v[i] - mean_v - slope * (t[i] - mean_t);
    rest += miss * miss;
  }
  return {slope, std::sqrt(rest / n)};
}

// A glide is steady: the right way at about the right speed, hardly sideways, near its line, and seldom backwards.
bool glides(const Track& track, const std::vector<double>& along, const std::vector<double>& across, double sign,
            double slowest, double fastest) {
  constexpr double kMostMissPx = 2.5;
  if (track.frame.size() < 3) return false;
  const Line main = fit(track.frame, along), side = fit(track.frame, across);
  const double speed = sign * main.slope;
  if (speed < 0.5 * slowest || speed > 1.8 * fastest) return false;
  if (std::abs(side.slope) > 0.4 * speed || main.rms > kMostMissPx || side.rms > kMostMissPx) return false;
  int forward = 0;
  for (size_t i = 1; i < along.size(); ++i) forward += sign * (along[i] - along[i - 1]) > 0.0 ? 1 : 0;
  return forward >= 0.7 * static_cast<double>(along.size() - 1);
}

bool shows_left(const Track& t, double slowest, double fastest) { return glides(t, t.x, t.y, -1, slowest, fastest); }
bool shows_right(const Track& t, double slowest, double fastest) { return glides(t, t.x, t.y, 1, slowest, fastest); }
bool shows_up(const Track& t, double slowest, double fastest) { return glides(t, t.y, t.x, -1, slowest, fastest); }
bool shows_down(const Track& t, double slowest, double fastest) { return glides(t, t.y, t.x, 1, slowest, fastest); }

Rgb tinted(double red, double green, double blue, double light) {
  const auto level = [light](double v) { return static_cast<uint8_t>(std::lround(std::clamp(v + light, 0.0, 255.0))); };
  return {level(red), level(green), level(blue)};
}

Rgb gray(double, double y, double, double height) { return tinted(158, 158, 160, 10.0 - 20.0 * y / height); }

// Soft tufts of 5 by 10 px: finer grain is lost in a small VAE, and costs it what the object needs.
Rgb grass(double x, double y, double, double height) {
  const double lean = x + 1.6 * std::sin(0.35 * y) + 0.25 * y;
  const double tufts = std::sin(1.2 * lean) * std::sin(0.62 * y + 1.9 * std::sin(0.4 * x));
  return tinted(96, 132, 62, 9.0 * tufts + 10.0 - 20.0 * y / height);
}

const std::vector<Verb>& gliding() {
  static const std::vector<Verb> verbs = {{"moves", "moving"},    {"slides", "sliding"},    {"glides", "gliding"},
                                          {"drifts", "drifting"}, {"travels", "traveling"}, {"goes", "going"},
                                          {"floats", "floating"}};
  return verbs;
}

template <typename Row>
const Row& find(std::span<const Row> rows, std::string_view kind, std::string_view name) {
  for (const Row& row : rows) {
    if (row.name == name) return row;
  }
  std::string known;
  for (const Row& row : rows) known += (known.empty() ? "" : ", ") + row.name;
  throw UsageError(concat("the world has no ", kind, " \"", name, "\""), concat("Known: ", known, "."));
}

}  // namespace

std::span<const ShapeRow> shape_rows() {
  static const std::vector<ShapeRow> rows = {
      {"ball", {"ball", "ball", "ball", "sphere", "round ball", "circle"}, ball, ball_seams},
      {"square", {"square", "square", "square", "box", "block"}, square, nullptr},
      {"triangle", {"triangle", "triangle", "triangle", "pyramid"}, triangle, nullptr},
  };
  return rows;
}

std::span<const ColourRow> colour_rows() {
  static const std::vector<ColourRow> rows = {
      {"red", {"red", "red", "red", "bright red", "crimson", "scarlet"}, {224, 44, 40}},
      {"yellow", {"yellow", "yellow", "yellow", "bright yellow", "golden"}, {246, 218, 36}},
      {"green", {"green", "green", "green", "bright green", "emerald"}, {40, 212, 92}},
      {"blue", {"blue", "blue", "blue", "bright blue", "azure"}, {36, 84, 236}},
  };
  return rows;
}

std::span<const MotionRow> motion_rows() {
  static const std::vector<MotionRow> rows = {
      {"left",
       gliding(),
       {"left", "to the left", "to the left", "leftward", "towards the left", "from right to left"},
       {},
       glide_left,
       shows_left},
      {"right",
       gliding(),
       {"right", "to the right", "to the right", "rightward", "towards the right", "from left to right"},
       {},
       glide_right,
       shows_right},
      {"up",
       gliding(),
       {"up", "up", "upward", "upwards", "to the top", "from bottom to top"},
       {{"rises", "rising"}, {"climbs", "climbing"}},
       glide_up,
       shows_up},
      {"down",
       gliding(),
       {"down", "down", "downward", "downwards", "to the bottom", "from top to bottom"},
       {{"sinks", "sinking"}, {"falls", "falling"}},
       glide_down,
       shows_down},
  };
  return rows;
}

std::span<const BackgroundRow> background_rows() {
  static const std::vector<BackgroundRow> rows = {
      {"gray",
       {"on a gray background", "on gray", "over a gray background", "in front of a gray background",
        "against a gray wall", "on a plain gray background", "on a grey background", "over gray"},
       {"gray background", "grey background", "plain gray"},
       gray},
      {"grass",
       {"on grass", "on grass", "on the grass", "on green grass", "over grass", "over the grass", "across the grass",
        "on a lawn", "on a green lawn", "in a meadow", "on a grassy field"},
       {"grass", "green grass", "grass background", "meadow"},
       grass},
  };
  return rows;
}

const ShapeRow& shape_row(std::string_view name) { return find(shape_rows(), "shape", name); }
const ColourRow& colour_row(std::string_view name) { return find(colour_rows(), "colour", name); }
const MotionRow& motion_row(std::string_view name) { return find(motion_rows(), "motion", name); }
const BackgroundRow& background_row(std::string_view name) { return find(background_rows(), "background", name); }

}  // namespace kinora::world
