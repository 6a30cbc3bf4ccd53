// For tests: the world that configs/shapes.json trains on, so that they measure what is shipped.
#pragma once

#include <nlohmann/json.hpp>

#include "kinora/base/json.h"
#include "kinora/world/world.h"

namespace kinora::world {

inline WorldConfig full_world() { return world_config(read_json_file("configs/shapes.json").at("world")); }

/// The same with places enough for every pair: on the grid that is shipped, many find none and become one object.
inline WorldConfig roomy_world() {
  WorldConfig config = full_world();
  config.grid_px = 4;
  return config;
}

}  // namespace kinora::world
