// The procedural world that the built-in model learns: scenes of one or two outlined objects that move over a
// background. A WorldConfig says which rows of tables.h are in use; everything below is a pure function of it and of a
// seed.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::world {

/// A named range of object sizes; a world with one size leaves the name empty, and captions then do not mention it.
struct SizeRange {
  std::string name;
  double min_radius_px = 12.0;
  double max_radius_px = 14.0;
};

struct WorldConfig {
  int64_t height = 64;
  int64_t width = 64;
  int64_t frames = 17;
  double fps = 8.0;
  std::vector<std::string> shapes = {"ball", "square", "triangle"};
  std::vector<std::string> colours = {"red", "yellow", "green", "blue"};
  std::vector<std::string> motions = {"left", "right", "up", "down"};
  std::vector<std::string> backgrounds = {"gray", "grass"};
  std::vector<SizeRange> sizes = {{"", 12.0, 14.0}};
  double min_speed_px = 1.4;  ///< per frame
  double max_speed_px = 2.0;
  double grid_px = 0.0;  ///< objects start at multiples of it; 0: anywhere
  double outline_px = 1.6;
  double held_out_fraction = 0.125;  ///< of the colour-shape-motion combinations, kept from every training draw
  double pairs = 0.0;                ///< share of scenes with two objects
};

/// Throws UsageError unless every name is known and listed once, every motion of the largest object fits into the
/// frame, and pairs, where there are any, can differ in shape and colour.
void check(const WorldConfig& config);

/// Reads the keys height, width, frames, fps, shapes, colours, motions, backgrounds, sizes ([{"name", "radius_px": [a,
/// b]}]), speed_px [a, b], grid_px, outline_px, held_out and pairs; what is absent keeps its default. Throws DataError for a key
/// or a value that is none of these, UsageError as check() does.
WorldConfig world_config(const nlohmann::json& json);
/// The same keys; world_config(to_json(c)) equals c.
nlohmann::json to_json(const WorldConfig& config);

/// Positions are of the object's middle (its centre of mass) at frame 0, the radius is its size there.
struct Object {
  std::string shape, colour, motion, size;
  double radius_px = 0.0;
  double x_px = 0.0;
  double y_px = 0.0;
  double speed_px = 0.0;
  bool operator==(const Object&) const = default;
};

/// One clip, described: one or two objects. Two differ in shape and in colour, are of the smallest size, and keep a gap
/// between them in every frame.
struct Scene {
  std::vector<Object> objects;
  std::string background;
  bool operator==(const Scene&) const = default;
};

enum class Split { train, held_out, any };

struct Combination {
  std::string shape, colour, motion;
  bool operator==(const Combination&) const = default;
};

/// The held-out combinations: a fixed choice for given names, spread so that every pair of values stays in training.
std::vector<Combination> held_out(const WorldConfig& config);
/// True when an object of the scene is a held-out combination.
bool is_held_out(const WorldConfig& config, const Scene& scene);

/// A random scene of the split, uniform over its combinations, with two objects in a share `pairs` of the draws; the
/// same for the same arguments everywhere. Throws UsageError where the split is empty.
Scene draw(const WorldConfig& config, uint64_t seed, Split split);

/// A random scene of two objects: in Split::train neither is a held-out combination, in Split::held_out at least one
/// is. Where no placement was found within some thousand tries, the scene has one object. Throws UsageError where the
/// split is empty.
Scene draw_pair(const WorldConfig& config, uint64_t seed, Split split);

/// Every combination of shape, colour, motion, background and size in the split, once, in the order of the config; one
/// object each.
std::vector<Scene> every_combination(const WorldConfig& config, Split split, uint64_t seed = 0);

/// The clip of the scene, [frames, height, width, 3].
media::Frames render(const WorldConfig& config, const Scene& scene);

/// A caption in lower case, one of many phrasings. It says shape, colour and motion of each object and the background,
/// and, in most captions, the size where that has a name.
std::string caption(const Scene& scene, uint64_t seed);

/// The scene as far as its caption tells it: sizes that the caption does not name are empty.
Scene as_told(Scene scene, const std::string& caption);

/// Every word that captions of this world can hold, sorted, each once.
std::vector<std::string> vocabulary(const WorldConfig& config);

/// An upper bound of the words in a caption of this world.
int64_t longest_caption(const WorldConfig& config);

/// A tokenizer.json (Unigram, Metaspace, T5's layout) for the vocabulary: <pad> 0, </s> 1 (appended), <unk> 2, then
/// U+2581, whole words with a leading U+2581, and single characters into which an unknown word falls apart.
std::string tokenizer_json(const WorldConfig& config);

/// The scene of sample(config, seed, index, split), without its clip.
Scene sample_scene(const WorldConfig& config, uint64_t seed, uint64_t index, Split split);

struct Sample {
  media::Frames clip;
  Scene scene;
  std::string caption;
};

/// Sample number `index` of the endless data set `seed`; independent of every other index.
Sample sample(const WorldConfig& config, uint64_t seed, uint64_t index, Split split);

}  // namespace kinora::world
