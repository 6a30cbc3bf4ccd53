#include "kinora/cli/run_record.h"

#include <chrono>
#include <utility>

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
  hooks.on_cache = [this, then = hooks.on_cache](const cache::Method& method) {
    for (const auto& [what, hits] : method.hits())
      hits_[what].computed += hits.computed, hits_[what].reused += hits.reused;
    if (then) then(method);
  };
}

}  // namespace kinora::cli
