#include "kinora/cli/cache_check.h"

#include <iomanip>
#include <sstream>
#include <utility>

#include "kinora/base/log.h"
#include "kinora/media/metrics.h"

namespace kinora::cli {
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
