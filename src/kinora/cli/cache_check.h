// generate --check: the same clips without the cache, and how near and how much slower they are.
#pragma once

#include <stop_token>
#include <vector>

#include "kinora/video/pipeline.h"

namespace kinora::cli {

/// Frames and denoising time of one run, taken from its hooks.
class RunRecord {
 public:
  /// Wraps on_frames and on_progress as they are set now; the record must outlive the hooks.
  void attach(video::Hooks& hooks);
  const std::vector<media::Frames>& clips() const { return clips_; }
  double denoise_s() const { return denoise_s_; }

 private:
  std::vector<media::Frames> clips_;
  double begin_s_ = 0, denoise_s_ = 0;
};

/// Makes the clips of `request` without a cache and holds `cached` to them: a line on stderr, and for each clip
/// {"psnr", "ssim", "speed"}, speed being that of denoising. Throws what Pipeline::generate throws.
std::vector<Json> check_cache(video::Pipeline& pipeline, video::Request request, const RunRecord& cached,
                              std::stop_token cancel);

}  // namespace kinora::cli
