#include "kinora/models/open_sora/work.h"

namespace kinora::models {
namespace {

int64_t patches(int64_t size, int64_t patch) { return (size + patch - 1) / patch; }

}  // namespace

std::vector<SiteWork> stdit3_sites(const STDiT3Config& config, int64_t frames, int64_t height, int64_t width,
                                   int64_t text_tokens) {
  const auto rows = static_cast<double>(stdit3_rows(config, frames, height, width));
  const auto t = static_cast<double>(patches(frames, config.patch_size[0]));
  const auto l = static_cast<double>(text_tokens), d = static_cast<double>(config.hidden_size);
  const double cross = rows * (4 * d * d + 4 * l * d), mlp = rows * 4 * d * static_cast<double>(config.mlp_size());
  std::vector<SiteWork> sites;
  for (int64_t block = 0; block < config.depth; ++block) {
    for (const Kind kind : {Kind::spatial, Kind::temporal}) {
      const bool is_spatial = kind == Kind::spatial;
      const std::string path = (is_spatial ? "spatial_blocks." : "temporal_blocks.") + std::to_string(block);
      const double keys = is_spatial ? rows / t : t;  // that a row attends to
      sites.push_back({path + ".attn", kind, rows * (8 * d * d + 4 * keys * d)});
      sites.push_back({path + ".cross_attn", Kind::cross, cross});
      sites.push_back({path + ".mlp", Kind::mlp, mlp});
    }
  }
  return sites;
}

int64_t stdit3_rows(const STDiT3Config& config, int64_t frames, int64_t height, int64_t width) {
  return patches(frames, config.patch_size[0]) * patches(height, config.patch_size[1]) *
         patches(width, config.patch_size[2]);
}

}  // namespace kinora::models
