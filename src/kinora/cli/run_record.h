// What a comparison needs of one run, taken from its hooks: frames, denoising time, what a cache reused.
#pragma once

#include <vector>

#include "kinora/cli/cache_report.h"
#include "kinora/video/pipeline.h"

namespace kinora::cli {

class RunRecord {
 public:
  /// Wraps on_frames, on_progress and on_cache as they are set now; the record must outlive the hooks.
  void attach(video::Hooks& hooks);
  /// By clip.
  const std::vector<media::Frames>& clips() const { return clips_; }
  /// Of the model calls; 0 until they are done.
  double denoise_s() const { return denoise_s_; }
  const CacheReport::Hits& hits() const { return hits_; }

 private:
  std::vector<media::Frames> clips_;
  double begin_s_ = 0, denoise_s_ = 0;
  CacheReport::Hits hits_;
};

}  // namespace kinora::cli
