// The work of STDiT3 by sites: what a cache saves where it reuses one.
#pragma once

#include <string>
#include <vector>

#include "kinora/models/open_sora/config.h"
#include "kinora/nn/site.h"

namespace kinora::models {

struct SiteWork {
  std::string path;  ///< as SiteKey::path
  Kind kind;
  double flops;  ///< as stdit3_flops counts, of one computation
};

/// Every site of one model call on latents [1, C, frames, height, width], in the order in which they run. Keys and values of
/// the text are computed before the blocks, and are no site's.
std::vector<SiteWork> stdit3_sites(const STDiT3Config& config, int64_t frames, int64_t height, int64_t width,
                                   int64_t text_tokens);

/// Rows of a block's output [1, T, S, C]: T S.
int64_t stdit3_rows(const STDiT3Config& config, int64_t frames, int64_t height, int64_t width);

}  // namespace kinora::models
