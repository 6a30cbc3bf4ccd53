// Runners of the step caches: what VideoSys' PABManager decides.
#include "kinora/cache/pab.h"
#include "kinora/parity/pab_config.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {

cache::PabSettings pab_settings(const Json& config) {
  using enum Kind;
  cache::PabSettings settings;
  const auto is_on = [&](const std::string& key) { return config.value(key, false); };
  for (const auto& [kind, name] : {std::pair{spatial, "spatial"}, {temporal, "temporal"}, {cross, "cross"}}) {
    const std::string key(name);
    if (!is_on(key + "_broadcast")) continue;
    const auto window = config.at(key + "_threshold").get<std::vector<double>>();
    settings.attention[kind] = {
        .range = config.at(key + "_range").get<int64_t>(), .low = window.at(0), .high = window.at(1)};
  }
  // Without any attention the reference is off as a whole.
  if (settings.attention.empty() || !is_on("mlp_broadcast")) return settings;
  for (const auto& [list, name] : {std::pair{"spatial_blocks", "mlp_spatial_broadcast_config"},
                                   {"temporal_blocks", "mlp_temporal_broadcast_config"}}) {
    if (!config.contains(name)) continue;
    for (const auto& [timestep, window] : config.at(name).items()) {
      settings.mlp[list].push_back({std::stoll(timestep), window.at("block").get<std::vector<int64_t>>(),
                                    window.at("skip_count").get<int64_t>()});
    }
  }
  return settings;
}

namespace {

Outputs pab_decisions(const Case& c) {
  const Json& config = c.config.at("pab");
  const cache::PabSettings settings = pab_settings(config);
  const auto timesteps = c.value("timesteps").get<std::vector<double>>();
  const auto steps = c.value("steps").get<int64_t>(), runs = c.value("runs").get<int64_t>(),
             calls = c.value("calls_per_step").get<int64_t>();
  Outputs out;
  for (const Kind kind : {Kind::spatial, Kind::temporal, Kind::cross}) {
    const auto rule = settings.attention.find(kind);
    std::string letters;
    int64_t count = 0;
    for (int64_t run = 0; run < runs; ++run) {
      for (const double t : timesteps) {
        for (int64_t call = 0; call < calls; ++call, ++count) {
          const bool repeats = rule != settings.attention.end() && cache::pab_repeats(rule->second, count % steps, t);
          letters += repeats ? 'R' : 'C';
        }
      }
    }
    out.values[std::string(cache::kind_name(kind))] = letters;
  }
  // The case's outputs say which blocks are asked for.
  for (const auto& [name, wanted] : c.outputs) {
    if (name.rfind("mlp_", 0) != 0) continue;
    const bool is_temporal = name.rfind("mlp_temporal", 0) == 0;
    const int64_t block = std::stoll(name.substr(name.find("block") + 5));
    const auto windows = settings.mlp.find(is_temporal ? "temporal_blocks" : "spatial_blocks");
    std::string letters;
    for (const double t : timesteps) {
      if (windows == settings.mlp.end()) break;
      letters += "CSR"[static_cast<int>(cache::pab_mlp(windows->second, block, t, timesteps).action)];
    }
    out.values[name] = letters;
  }
  out.values["enabled"] = !settings.attention.empty();
  return out;
}

}  // namespace

void add_cache(Registry& registry) { registry.add("PABManager", "decisions", pab_decisions); }

}  // namespace kinora::parity
