// The procedural world as options and files name it.
#pragma once

#include <filesystem>
#include <string>

#include "kinora/base/error.h"
#include "kinora/base/json.h"
#include "kinora/world/world.h"

namespace kinora::cli {

/// A world's JSON file, or a training config with a member "world". Throws DataError.
inline world::WorldConfig read_world(const std::filesystem::path& file) {
  const Json json = read_json_file(file);
  return world::world_config(json.contains("world") ? json.at("world") : json);
}

/// Throws UsageError.
inline world::Split parse_split(const std::string& name) {
  if (name == "train") return world::Split::train;
  if (name == "held-out") return world::Split::held_out;
  if (name == "any") return world::Split::any;
  throw UsageError(concat("the split \"", name, "\" is not known"), "choose train, held-out or any");
}

}  // namespace kinora::cli
