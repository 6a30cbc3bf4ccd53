// A world's description: what it may hold, and its JSON.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "kinora/base/error.h"
#include "kinora/world/place.h"
#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {
namespace {

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
  if (!(config.grid_px >= 0.0 && config.grid_px <= static_cast<double>(std::min(config.height, config.width))))
    throw UsageError(concat("the world's grid of ", config.grid_px, " px cannot be"),
                     "Choose 0, or a width within the picture.");
  if (!(config.outline_px >= 0.0 && config.outline_px < 100.0))
    throw UsageError(concat("the world's outline of ", config.outline_px, " px cannot be"));
  if (!(config.held_out_fraction >= 0.0 && config.held_out_fraction <= 0.5)) {
    throw UsageError(concat("the world cannot hold out a share of ", config.held_out_fraction), "Choose 0 to 0.5.");
  }
  if (!(config.pairs >= 0.0 && config.pairs <= 1.0))
    throw UsageError(concat("the share of pairs cannot be ", config.pairs), "Choose 0 to 1.");
  if (config.pairs > 0.0 && (config.shapes.size() < 2 || config.colours.size() < 2)) {
    throw UsageError("the two objects of a pair cannot differ in shape and colour",
                     "List two shapes and two colours, or set pairs to 0.");
  }
  if (config.sizes.empty()) throw UsageError("the world needs at least one size");
  std::set<std::string> names;
  for (const SizeRange& size : config.sizes) {
    check_range("size", size.min_radius_px, size.max_radius_px);
    if (!names.insert(size.name).second) throw UsageError(concat("the world lists the size \"", size.name, "\" twice"));
    for (const auto& shape : config.shapes) {
      for (const auto& motion : config.motions) {
        const Box box = path_box(config, shape_row(shape), motion_row(motion), size.max_radius_px, config.max_speed_px);
        if (box.x.high - box.x.low > static_cast<double>(config.width) ||
            box.y.high - box.y.low > static_cast<double>(config.height)) {
          throw UsageError(concat("the motion \"", motion, "\" takes a ", shape, " of radius ", size.max_radius_px,
                                  " px out of the picture of ", config.width, "x", config.height),
                           "Choose smaller objects, slower motions, fewer frames or larger pictures.");
        }
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
      else if (key == "grid_px")
        config.grid_px = value.get<double>();
      else if (key == "outline_px")
        config.outline_px = value.get<double>();
      else if (key == "held_out")
        config.held_out_fraction = value.get<double>();
      else if (key == "pairs")
        config.pairs = value.get<double>();
      else if (key == "sizes") {
        config.sizes.clear();
        for (const auto& size : value) {
          const auto [low, high] = range_of(size.at("radius_px"), "radius_px");
          config.sizes.push_back({size.value("name", std::string()), low, high});
        }
      } else {
        throw DataError(concat("world: unknown key \"", key, "\""),
                        "Known: height, width, frames, fps, shapes, colours, motions, backgrounds, sizes, speed_px, "
                        "grid_px, outline_px, held_out, pairs.");
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
          {"grid_px", config.grid_px},
          {"outline_px", config.outline_px},
          {"held_out", config.held_out_fraction},
          {"pairs", config.pairs}};
}

}  // namespace kinora::world
