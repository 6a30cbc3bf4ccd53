// Requests of any shape from a file: a JSON object a line.
#pragma once

#include <filesystem>
#include <vector>

#include "kinora/video/request.h"

namespace kinora::cli {

struct FiledRequest {
  video::Request request;
  std::filesystem::path output;
  std::string where;  ///< "'requests.jsonl', line 3", for errors
};

/// {"prompt": "a red ball", "output": "ball.mp4"} and, as far as wanted, "negative_prompt", "height", "width",
/// "resolution", "aspect_ratio", "num_frames", "steps", "guidance_scale", "seed", "fps", "cache"; what is left out is the
/// model's. Empty lines and those that begin with # are left out. Throws UsageError for a file that is not there;
/// DataError, naming the line, for one that is no such object, for two with the same output, and for a file without any.
std::vector<FiledRequest> read_requests(const std::filesystem::path& path);

}  // namespace kinora::cli
