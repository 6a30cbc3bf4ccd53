// What the world is made of: one row per shape, colour, motion and background. A row holds everything that the
// renderer, the captions and the judge need to know, so that a further shape is one row and one function here and
// nothing elsewhere.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kinora::world {

using Rgb = std::array<uint8_t, 3>;

/// Signed distance in px from the point (x, y), in px from the middle of the shape's box, y down; negative inside.
using Distance = double (*)(double x, double y, double radius);

struct ShapeRow {
  std::string name;
  std::vector<std::string> nouns;
  Distance outline;
  Distance mark;  ///< a dark marking inside the shape, or nullptr
};

struct ColourRow {
  std::string name;
  std::vector<std::string> words;
  Rgb rgb;
};

/// Where the object is at one frame: offset from its start in px, its scale and its clockwise angle in radians.
struct Pose {
  double x = 0.0;
  double y = 0.0;
  double scale = 1.0;
  double angle = 0.0;
};

/// What the judge saw of the one object: one entry for each frame that showed it.
struct Track {
  std::vector<double> frame, x, y, radius;
};

struct Verb {
  std::string finite;  ///< "moves"
  std::string gerund;  ///< "moving"
};

struct MotionRow {
  std::string name;
  std::vector<Verb> verbs;           ///< combined with every adverb
  std::vector<std::string> adverbs;  ///< "to the left"; one empty text where the verb says all
  std::vector<Verb> whole;           ///< say the motion alone
  Pose (*pose)(double frame, double speed);
  /// True when the track shows this motion; speeds in px per frame, the range that the world draws from.
  bool (*shown)(const Track& track, double slowest, double fastest);
};

struct BackgroundRow {
  std::string name;
  std::vector<std::string> places;   ///< "on grass"
  std::vector<std::string> scenery;  ///< "grass"
  Rgb (*at)(double x, double y, double width, double height);
};

std::span<const ShapeRow> shape_rows();
std::span<const ColourRow> colour_rows();
std::span<const MotionRow> motion_rows();
std::span<const BackgroundRow> background_rows();

/// The row of that name; throws UsageError that lists the known names.
const ShapeRow& shape_row(std::string_view name);
const ColourRow& colour_row(std::string_view name);
const MotionRow& motion_row(std::string_view name);
const BackgroundRow& background_row(std::string_view name);

}  // namespace kinora::world
