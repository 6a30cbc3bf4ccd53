// The backgrounds: plain ones, and scenes with a horizon. Features are few, large and soft: finer grain is lost in a
// small autoencoder, and costs it what the object needs. None looks like an object's dark outline, or like a mixture of
// that outline with the object's colour, which is what blur makes of an edge.
#include <algorithm>
#include <array>
#include <cmath>

#include "kinora/world/tables.h"

namespace kinora::world {
namespace {

struct Paint {
  double red, green, blue;
};

Rgb rgb(const Paint& p) {
  const auto level = [](double v) { return static_cast<uint8_t>(std::lround(std::clamp(v, 0.0, 255.0))); };
  return {level(p.red), level(p.green), level(p.blue)};
}

Paint mix(const Paint& a, const Paint& b, double share) {
  const double t = std::clamp(share, 0.0, 1.0);
  return {a.red + (b.red - a.red) * t, a.green + (b.green - a.green) * t, a.blue + (b.blue - a.blue) * t};
}

Rgb tinted(double red, double green, double blue, double light) {
  return rgb({red + light, green + light, blue + light});
}

/// 0 above an edge at y = 0, 1 below, over a px or so.
double step(double y) { return std::clamp(y + 0.5, 0.0, 1.0); }

/// 1 in the middle of a soft round light.
double glow(double x, double y, double radius) { return std::exp(-(x * x + y * y) / (radius * radius)); }

Rgb gray(double, double y, double, double height) { return tinted(158, 158, 160, 10.0 - 20.0 * y / height); }

// Soft tufts of 5 by 10 px.
Rgb grass(double x, double y, double, double height) {
  const double lean = x + 1.6 * std::sin(0.35 * y) + 0.25 * y;
  const double tufts = std::sin(1.2 * lean) * std::sin(0.62 * y + 1.9 * std::sin(0.4 * x));
  return tinted(96, 132, 62, 9.0 * tufts + 10.0 - 20.0 * y / height);
}

// Two ridges of green under a sky with one cloud. In scenes lengths are shares of the picture, u to the right, v down.
Rgb hills(double x, double y, double width, double height) {
  const double u = x / width, v = y / height;
  Paint paint = mix({146, 190, 236}, {208, 228, 244}, v / 0.5);
  double cloud = 0.0;
  for (const auto& [at, up, radius] : {std::array{0.16, 0.21, 0.08}, {0.27, 0.16, 0.11}, {0.40, 0.20, 0.09}})
    cloud += glow(u - at, 1.3 * (v - up), radius);
  paint = mix(paint, {250, 250, 252}, cloud);
  const double far = 0.46 + 0.06 * std::sin(5.2 * u + 2.4), near = 0.62 + 0.07 * std::sin(4.1 * u + 5.3);
  paint = mix(paint, mix({124, 168, 104}, {104, 148, 82}, (v - far) / 0.25), step((v - far) * height));
  return rgb(mix(paint, mix({104, 146, 66}, {80, 118, 50}, (v - near) / 0.4), step((v - near) * height)));
}

// Dunes with a lit and a shaded flank under a pale sky.
Rgb sand(double x, double y, double width, double height) {
  const double u = x / width, v = y / height;
  Paint paint = mix({204, 214, 220}, {244, 230, 208}, v / 0.36);
  const double far = 0.36 + 0.035 * std::sin(6.5 * u + 0.6), near = 0.56 + 0.09 * std::sin(3.6 * u + 3.9);
  paint = mix(paint, mix({226, 192, 142}, {206, 168, 116}, (v - far) / 0.3), step((v - far) * height));
  return rgb(mix(paint, mix({234, 204, 156}, {196, 158, 108}, (v - near) / 0.45), step((v - near) * height)));
}

// Broad waves that grow towards the front, under a pale sky.
Rgb sea(double x, double y, double width, double height) {
  constexpr double kHorizon = 0.36;
  const double u = x / width, v = y / height, depth = (v - kHorizon) / (1.0 - kHorizon);
  const Paint sky = mix({190, 210, 222}, {236, 232, 222}, v / kHorizon);
  Paint water = mix({104, 146, 178}, {70, 98, 136}, depth);
  const double near = std::max(depth, 0.0);
  const double wave = std::sin(26.0 * std::sqrt(near + 0.04) + 0.9 * std::sin(9.0 * u + 5.0 * near));
  water = mix(water, {158, 190, 212}, std::clamp(wave - 0.35, 0.0, 1.0) * 0.45 * std::min(1.0, 4.0 * near));
  return rgb(mix(sky, water, step((v - kHorizon) * height)));
}

// A moon, a few large stars and hills in its light.
Rgb night(double x, double y, double width, double height) {
  const double u = x / width, v = y / height, unit = height / 96.0;
  Paint paint = mix({66, 76, 116}, {98, 106, 150}, v / 0.75);
  constexpr double kStars[][2] = {{0.12, 0.14}, {0.34, 0.30}, {0.52, 0.10}, {0.08, 0.46}, {0.62, 0.42}, {0.92, 0.50}};
  for (const auto& star : kStars)
    paint = mix(paint, {232, 232, 250}, 0.9 * glow(x - star[0] * width, y - star[1] * height, 2.1 * unit));
  const double moon = std::hypot(x - 0.80 * width, y - 0.19 * height) - 7.5 * unit;
  paint = mix(paint, {150, 156, 190}, 0.55 * std::exp(-std::max(moon, 0.0) / (7.0 * unit)));
  paint = mix(paint, {246, 242, 220}, step(-moon));
  const double hill = 0.76 + 0.05 * std::sin(5.0 * u + 0.8);
  return rgb(mix(paint, mix({70, 90, 112}, {62, 82, 102}, (v - hill) / 0.25), step((v - hill) * height)));
}

}  // namespace

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
      {"hills",
       {"over hills", "over the hills", "on the hills", "in front of hills", "in the hills", "over green hills",
        "under a blue sky"},
       {"hills", "green hills", "hills under a blue sky"},
       hills},
      {"sand",
       {"on sand", "on sand", "on the sand", "over sand", "over the sand", "across the sand", "in the desert",
        "in a desert", "over the dunes", "on sand dunes"},
       {"sand", "desert", "sand dunes"},
       sand},
      {"sea",
       {"over the sea", "over the sea", "on the sea", "above the sea", "by the sea", "over the ocean", "over the water",
        "in front of the sea"},
       {"sea", "ocean", "the sea"},
       sea},
      {"night",
       {"at night", "at night", "in the night", "in the night sky", "under the moon", "under a night sky",
        "on a starry night"},
       {"night", "night sky", "starry night"},
       night},
  };
  return rows;
}

}  // namespace kinora::world
