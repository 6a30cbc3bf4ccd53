// One clip made with a cache, and what it took: for comparisons with the plain run.
#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "kinora/video/pipeline.h"

namespace kinora::cli {

struct CacheTrial {
  media::Frames frames;
  double denoise_s = 0;  ///< of the model calls
  std::map<std::string, cache::Hits, std::less<>> hits;
};

/// The request's one prompt with `cache`, as --cache takes it. `watch` stands in for the cache where it is given.
/// Throws what Pipeline::generate throws.
CacheTrial try_cache(video::Pipeline& pipeline, video::Request request, const std::string& cache,
                     std::stop_token cancel, cache::Method* watch = nullptr);

}  // namespace kinora::cli
