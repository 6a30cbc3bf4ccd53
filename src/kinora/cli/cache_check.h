// generate --check: the same clips without the cache, and how near and how much slower they are.
#pragma once

#include <stop_token>
#include <vector>

#include "kinora/cli/run_record.h"

namespace kinora::cli {

/// Makes the clips of `request` without a cache and holds `cached` to them: a line on stderr, and for each clip
/// {"psnr", "ssim", "speed"}, speed being that of denoising. Throws what Pipeline::generate throws.
std::vector<Json> check_cache(video::Pipeline& pipeline, video::Request request, const RunRecord& cached,
                              std::stop_token cancel);

}  // namespace kinora::cli
