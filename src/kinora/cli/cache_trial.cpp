#include "kinora/cli/cache_trial.h"

#include <chrono>
#include <utility>

namespace kinora::cli {

CacheTrial try_cache(video::Pipeline& pipeline, video::Request request, const std::string& cache,
                     std::stop_token cancel, cache::Method* watch) {
  using Clock = std::chrono::steady_clock;
  CacheTrial trial;
  Clock::time_point begin;
  video::Hooks hooks;
  hooks.cancel = std::move(cancel);
  hooks.cache = watch;
  hooks.on_progress = [&](video::Stage stage, int64_t done, int64_t total) {
    if (stage != video::Stage::denoise) return;
    if (done == 0) begin = Clock::now();
    if (done == total) trial.denoise_s = std::chrono::duration<double>(Clock::now() - begin).count();
  };
  hooks.on_cache = [&](const cache::Method& method) { trial.hits = method.hits(); };
  request.cache = cache;
  trial.frames = std::move(pipeline.generate(request, hooks).at(0).frames);
  return trial;
}

}  // namespace kinora::cli
