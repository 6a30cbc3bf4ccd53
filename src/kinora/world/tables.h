// What the world is made of: one row per shape, colour, size, motion and background. A row holds everything that the
// renderer, the captions and the judge need to know, so that a further shape is one row and one function in its file
// (shapes.cpp, colours.cpp, motions.cpp, backgrounds.cpp) and nothing elsewhere.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kinora::world {

using Rgb = std::array<uint8_t, 3>;

/// Signed distance in px from the point (x, y), in px from the origin of the shape's drawing, y down; negative inside.
using Distance = double (*)(double x, double y, double radius);

/// What follows from an outline of radius 1: its area, its middle (centre of mass; about it the shape turns and grows),
/// and how far it reaches from that middle.
struct Form {
  double area = 0.0, x = 0.0, y = 0.0;
  double left = 0.0, right = 0.0, top = 0.0, bottom = 0.0;  ///< of the upright box, each >= 0
  double reach = 0.0;                                       ///< of the farthest point
};

/// Measured on a fine grid; of the outline moved outwards by `swell` of its radius.
Form measure(Distance outline, double swell = 0.0);

struct ShapeRow {
  std::string name;
  std::vector<std::string> nouns;
  Distance outline;
  Distance mark;  ///< a dark marking inside the shape, or nullptr
  Form form = measure(outline);
};

struct ColourRow {
  std::string name;
  std::vector<std::string> words;
  Rgb rgb;
};

struct SizeRow {
  std::string name;
  std::vector<std::string> words;
};

/// Where the object is at one frame: offset from its start in px, its scale and its clockwise angle in radians.
struct Pose {
  double x = 0.0;
  double y = 0.0;
  double scale = 1.0;
  double angle = 0.0;
};

/// What the judge saw of one object: one entry for each frame that showed it.
struct Track {
  std::vector<double> frame, x, y, radius;
  std::vector<double> angle;  ///< clockwise, in radians, known up to whole periods; empty where it cannot be told
  double period = 0.0;        ///< after which the shape looks the same again
};

struct Verb {
  std::string finite;  ///< "moves"
  std::string gerund;  ///< "moving"
};

struct MotionRow {
  std::string name;
  std::vector<Verb> verbs;           ///< combined with every adverb
  std::vector<std::string> adverbs;  ///< "to the left"
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
std::span<const SizeRow> size_rows();
std::span<const MotionRow> motion_rows();
std::span<const BackgroundRow> background_rows();

/// The row of that name; throws UsageError that lists the known names.
const ShapeRow& shape_row(std::string_view name);
const ColourRow& colour_row(std::string_view name);
const MotionRow& motion_row(std::string_view name);
const BackgroundRow& background_row(std::string_view name);

/// What captions call a size: the words of its row, or a name without a row itself; none for the empty name.
std::vector<std::string> size_words(const std::string& name);

/// True when the motion turns an object.
bool turns(const MotionRow& motion);

}  // namespace kinora::world
