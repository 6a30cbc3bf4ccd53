// Runners of Open-Sora's tables of sizes and lengths.
#include "kinora/video/tables.h"
#include "kinora/base/error.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

Outputs tables(const Case& c) {
  Json sizes = Json::object(), ratios = Json::object(), lengths = Json::object();
  for (const Json& name : c.value("which")) {
    const video::Resolution& table = video::resolution(name.get<std::string>());
    Json rows = Json::object();
    for (const auto& [key, height, width] : table.sizes) rows[key] = {height, width};
    sizes[table.name] = {table.area, rows};
  }
  for (const auto& [ratio, key] : video::aspect_ratios()) ratios[ratio] = key;
  for (const auto& [name, frames] : video::length_names()) lengths[name] = frames;
  Outputs out;
  out.values = {{"resolutions", sizes}, {"ratio_map", ratios}, {"num_frames", lengths}};
  return out;
}

Outputs queries(const Case& c) {
  Json sizes = Json::array(), closest = Json::array(), frames = Json::array();
  for (const Json& query : c.value("sizes")) {
    const video::TableSize& size = video::image_size(query.at(0).get<std::string>(), query.at(1).get<std::string>());
    sizes.push_back({size.height, size.width});
  }
  for (const Json& query : c.value("closest")) {
    closest.push_back(video::closest_size(video::resolution(query.at(2).get<std::string>()), query.at(0).get<double>(),
                                          query.at(1).get<double>())
                          .key);
  }
  for (const Json& name : c.value("frames"))
    frames.push_back(video::num_frames_of(name.is_string() ? name.get<std::string>() : name.dump()));
  Outputs out;
  out.values = {{"image_sizes", sizes}, {"closest_ratio", closest}, {"num_frames", frames}};
  return out;
}

}  // namespace

void add_tables(Registry& registry) {
  registry.add("tables", "tables", tables);
  registry.add("tables", "queries", queries);
}

}  // namespace kinora::parity
