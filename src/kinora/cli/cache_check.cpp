#include "kinora/cli/cache_check.h"

#include <chrono>
#include <iomanip>
#include <sstream>
#include <utility>

#include "kinora/base/log.h"
#include "kinora/media/metrics.h"

namespace kinora::cli {
namespace {

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Puts `more` behind `clip`.
void append(media::Frames& clip, const media::Frames& more) {
  if (clip.frames == 0) {
    clip = more;
    return;
  }
  clip.frames += more.frames;
  clip.rgb.insert(clip.rgb.end(), more.rgb.begin(), more.rgb.end());
}

}  // namespace

void RunRecord::attach(video::Hooks& hooks) {
  hooks.on_frames = [this, then = hooks.on_frames](int64_t index, media::Frames frames, int64_t first) {
    if (static_cast<size_t>(index) >= clips_.size()) clips_.resize(static_cast<size_t>(index) + 1);
    append(clips_[static_cast<size_t>(index)], frames);
    if (then) then(index, std::move(frames), first);
  };
  hooks.on_progress = [this, then = hooks.on_progress](video::Stage stage, int64_t done, int64_t total) {
    if (stage == video::Stage::denoise && done == 0) begin_s_ = now_s();
    if (stage == video::Stage::denoise && done == total) denoise_s_ = now_s() - begin_s_;
    if (then) then(stage, done, total);
  };
}

std::vector<Json> check_cache(video::Pipeline& pipeline, video::Request request, const RunRecord& cached,
                              std::stop_token cancel) {
  log_info("making the same without the cache");
  request.cache = "none";
  RunRecord plain;
  video::Hooks hooks;
  hooks.cancel = std::move(cancel);
  plain.attach(hooks);
  pipeline.generate(request, hooks);
  const double speed = plain.denoise_s() / cached.denoise_s();
  std::vector<Json> found;
  double psnr = 0, ssim = 0;
  for (size_t i = 0; i < plain.clips().size(); ++i) {
    const media::ClipMetrics metrics = media::compare_clips(plain.clips()[i], cached.clips().at(i));
    psnr += metrics.psnr_mean, ssim += metrics.ssim_mean;
    found.push_back({{"psnr", metrics.psnr_mean}, {"ssim", metrics.ssim_mean}, {"speed", speed}});
  }
  const auto clips = static_cast<double>(found.size());
  std::ostringstream line;
  line << std::fixed << std::setprecision(2) << "the cache made it " << speed << " times as fast to denoise, "
       << psnr / clips << " dB and SSIM " << ssim / clips << " from the plain "
       << (found.size() > 1 ? "clips" : "clip");
  log_info(line.str());
  return found;
}

}  // namespace kinora::cli
