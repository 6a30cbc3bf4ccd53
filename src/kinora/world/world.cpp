#include "kinora/world/world.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "kinora/base/error.h"
#include "kinora/world/random.h"
#include "kinora/world/tables.h"

namespace kinora::world {
namespace {

constexpr double kMarginPx = 1.5;  // between the object's box and the border: soft edges reach beyond a sharp corner

// The box of one coordinate of the object's path, relative to its start.
struct Reach {
  double low = 0.0;
  double high = 0.0;
};

struct Box {
  Reach x, y;
};

Box path_box(const WorldConfig& config, const MotionRow& motion, double radius_px, double speed_px) {
  Box box{{1e9, -1e9}, {1e9, -1e9}};
  const auto extend = [](Reach& reach, double middle, double half) {
    reach.low = std::min(reach.low, middle - half);
    reach.high = std::max(reach.high, middle + half);
  };
  for (int64_t frame = 0; frame < config.frames; ++frame) {
    const Pose pose = motion.pose(static_cast<double>(frame), speed_px);
    const double half = radius_px * pose.scale + kMarginPx;
    extend(box.x, pose.x, half);
    extend(box.y, pose.y, half);
  }
  return box;
}

// Fills in what a combination leaves open.
Scene place(const WorldConfig& config, Scene scene, const SizeRange& size, Random random) {
  scene.size = size.name;
  scene.radius_px = random.uniform(size.min_radius_px, size.max_radius_px);
  scene.speed_px = random.uniform(config.min_speed_px, config.max_speed_px);
  const Box box = path_box(config, motion_row(scene.motion), scene.radius_px, scene.speed_px);
  scene.x_px = random.uniform(-box.x.low, static_cast<double>(config.width) - box.x.high);
  scene.y_px = random.uniform(-box.y.low, static_cast<double>(config.height) - box.y.high);
  return scene;
}

std::vector<Combination> combinations(const WorldConfig& config) {
  std::vector<Combination> all;
  for (const auto& shape : config.shapes) {
    for (const auto& colour : config.colours) {
      for (const auto& motion : config.motions) all.push_back({shape, colour, motion});
    }
  }
  return all;
}

std::vector<Combination> combinations(const WorldConfig& config, Split split) {
  std::vector<Combination> all = combinations(config);
  if (split == Split::any) return all;
  const std::vector<Combination> kept = held_out(config);
  if (split == Split::held_out) return kept;
  std::erase_if(all, [&](const Combination& c) { return std::find(kept.begin(), kept.end(), c) != kept.end(); });
  return all;
}

template <typename Find>
void check_names(const char* kind, const std::vector<std::string>& names, Find find) {
  if (names.empty()) throw UsageError(concat("the world needs at least one ", kind));
  for (const auto& name : names) {
    find(name);
    if (std::count(names.begin(), names.end(), name) > 1)
      throw UsageError(concat("the world lists the ", kind, " \"", name, "\" twice"));
  }
}

void check_range(const char* what, double low, double high) {
  if (!(low > 0.0 && low <= high && high < 1e4)) {
    throw UsageError(concat("the world's ", what, " from ", low, " to ", high, " px is no range"),
                     "Give two positive numbers, the smaller first.");
  }
}

std::pair<double, double> range_of(const nlohmann::json& json, const char* key) {
  if (!json.is_array() || json.size() != 2) throw DataError(concat("world: \"", key, "\" must be two numbers"));
  return {json[0].get<double>(), json[1].get<double>()};
}

}  // namespace

void check(const WorldConfig& config) {
  media::check_sizes(config.frames, config.height, config.width, config.fps);
  check_names("shape", config.shapes, [](const std::string& name) { shape_row(name); });
  check_names("colour", config.colours, [](const std::string& name) { colour_row(name); });
  check_names("motion", config.motions, [](const std::string& name) { motion_row(name); });
  check_names("background", config.backgrounds, [](const std::string& name) { background_row(name); });
  check_range("speed", config.min_speed_px, config.max_speed_px);
  if (!(config.outline_px >= 0.0 && config.outline_px < 100.0))
    throw UsageError(concat("the world's outline of ", config.outline_px, " px cannot be"));
  if (!(config.held_out_fraction >= 0.0 && config.held_out_fraction <= 0.5)) {
    throw UsageError(concat("the world cannot hold out a share of ", config.held_out_fraction), "Choose 0 to 0.5.");
  }
  if (config.sizes.empty()) throw UsageError("the world needs at least one size");
  std::set<std::string> names;
  for (const SizeRange& size : config.sizes) {
    check_range("size", size.min_radius_px, size.max_radius_px);
    if (!names.insert(size.name).second) throw UsageError(concat("the world lists the size \"", size.name, "\" twice"));
    for (const auto& motion : config.motions) {
      const Box box = path_box(config, motion_row(motion), size.max_radius_px, config.max_speed_px);
      if (box.x.high - box.x.low > static_cast<double>(config.width) ||
          box.y.high - box.y.low > static_cast<double>(config.height)) {
        throw UsageError(concat("an object of radius ", size.max_radius_px, " px that moves ", motion,
                                " leaves the picture of ", config.width, "x", config.height),
                         "Choose smaller objects, slower motions, fewer frames or larger pictures.");
      }
    }
  }
}

WorldConfig world_config(const nlohmann::json& json) {
  if (!json.is_object()) throw DataError("world: the description must be a JSON object");
  WorldConfig config;
  try {
    for (const auto& [key, value] : json.items()) {
      if (key == "height")
        config.height = value.get<int64_t>();
      else if (key == "width")
        config.width = value.get<int64_t>();
      else if (key == "frames")
        config.frames = value.get<int64_t>();
      else if (key == "fps")
        config.fps = value.get<double>();
      else if (key == "shapes")
        config.shapes = value.get<std::vector<std::string>>();
      else if (key == "colours")
        config.colours = value.get<std::vector<std::string>>();
      else if (key == "motions")
        config.motions = value.get<std::vector<std::string>>();
      else if (key == "backgrounds")
        config.backgrounds = value.get<std::vector<std::string>>();
      else if (key == "speed_px")
        std::tie(config.min_speed_px, config.max_speed_px) = range_of(value, "speed_px");
      else if (key == "outline_px")
        config.outline_px = value.get<double>();
      else if (key == "held_out")
        config.held_out_fraction = value.get<double>();
      else if (key == "sizes") {
        config.sizes.clear();
        for (const auto& size : value) {
          const auto [low, high] = range_of(size.at("radius_px"), "radius_px");
          config.sizes.push_back({size.value("name", std::string()), low, high});
        }
      } else {
        throw DataError(concat("world: unknown key \"", key, "\""),
                        "Known: height, width, frames, fps, shapes, colours, motions, backgrounds, sizes, speed_px, "
                        "outline_px, held_out.");
      }
    }
  } catch (const nlohmann::json::exception& error) {
    throw DataError(concat("world: a value is of the wrong kind (", error.what(), ")"));
  }
  check(config);
  return config;
}

nlohmann::json to_json(const WorldConfig& config) {
  nlohmann::json sizes = nlohmann::json::array();
  for (const SizeRange& size : config.sizes)
    sizes.push_back({{"name", size.name}, {"radius_px", {size.min_radius_px, size.max_radius_px}}});
  return {{"height", config.height},
          {"width", config.width},
          {"frames", config.frames},
          {"fps", config.fps},
          {"shapes", config.shapes},
          {"colours", config.colours},
          {"motions", config.motions},
          {"backgrounds", config.backgrounds},
          {"sizes", sizes},
          {"speed_px", {config.min_speed_px, config.max_speed_px}},
          {"outline_px", config.outline_px},
          {"held_out", config.held_out_fraction}};
}

std::vector<Combination> held_out(const WorldConfig& config) {
  std::vector<Combination> all = combinations(config);
  const auto want = static_cast<size_t>(std::lround(config.held_out_fraction * static_cast<double>(all.size())));
  // The order comes from the names, so a world that gains a row keeps the order of the combinations that it had.
  std::map<uint64_t, Combination> ranked;
  for (Combination& c : all) {
    const uint64_t rank = key_of(c.shape + "/" + c.colour + "/" + c.motion);
    ranked.emplace(rank, std::move(c));
  }
  std::vector<Combination> kept;
  std::map<std::string, size_t> uses;  // how often a value, and a pair of values, is held out
  // The caps rise only when nothing more fits under them: values are held out evenly, and pairs at most once each at
  // first.
  for (size_t cap = 1; kept.size() < want && cap <= ranked.size(); ++cap) {
    for (const auto& [rank, c] : ranked) {
      if (kept.size() == want) break;
      if (std::find(kept.begin(), kept.end(), c) != kept.end()) continue;
      const std::string pairs[] = {c.shape + "/" + c.colour, c.shape + "//" + c.motion, c.colour + "/" + c.motion};
      const std::string values[] = {"shape " + c.shape, "colour " + c.colour, "motion " + c.motion};
      const size_t pair_cap = 1 + (cap - 1) / std::max<size_t>(1, config.colours.size() + config.motions.size());
      if (std::any_of(std::begin(pairs), std::end(pairs), [&](const auto& p) { return uses[p] >= pair_cap; })) continue;
      if (std::any_of(std::begin(values), std::end(values), [&](const auto& v) { return uses[v] >= cap; })) continue;
      for (const auto& p : pairs) ++uses[p];
      for (const auto& v : values) ++uses[v];
      kept.push_back(c);
    }
  }
  return kept;
}

bool is_held_out(const WorldConfig& config, const Scene& scene) {
  const std::vector<Combination> kept = held_out(config);
  return std::find(kept.begin(), kept.end(), Combination{scene.shape, scene.colour, scene.motion}) != kept.end();
}

Scene draw(const WorldConfig& config, uint64_t seed, Split split) {
  const std::vector<Combination> from = combinations(config, split);
  if (from.empty()) throw UsageError("the world has no combination in this split", "Set held_out above 0.");
  Random random(join(seed, key_of("scene")));
  const Combination& c = from[random.below(from.size())];
  const std::string& background = config.backgrounds[random.below(config.backgrounds.size())];
  const SizeRange& size = config.sizes[random.below(config.sizes.size())];
  return place(config, Scene{c.shape, c.colour, c.motion, background, size.name}, size,
               Random(join(seed, key_of("place"))));
}

std::vector<Scene> every_combination(const WorldConfig& config, Split split, uint64_t seed) {
  std::vector<Scene> scenes;
  for (const Combination& c : combinations(config, split)) {
    for (const auto& background : config.backgrounds) {
      for (const SizeRange& size : config.sizes) {
        scenes.push_back(place(config, Scene{c.shape, c.colour, c.motion, background, size.name}, size,
                               Random(join(seed, scenes.size()))));
      }
    }
  }
  return scenes;
}

Scene sample_scene(const WorldConfig& config, uint64_t seed, uint64_t index, Split split) {
  return draw(config, join(seed, index), split);
}

Sample sample(const WorldConfig& config, uint64_t seed, uint64_t index, Split split) {
  const uint64_t key = join(seed, index);
  Sample out;
  out.scene = sample_scene(config, seed, index, split);
  out.clip = render(config, out.scene);
  out.caption = caption(out.scene, key);
  return out;
}

}  // namespace kinora::world
