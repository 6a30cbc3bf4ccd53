#include "kinora/cli/request_options.h"

#include "kinora/cli/command.h"
#include "kinora/video/tables.h"

namespace kinora::cli {

void add_request_options(CLI::App& command, RequestOptions& options) {
  video::Request& request = options.request;
  command.add_option("prompts", options.positional, "what the clip shows; several prompts give several clips");
  command.add_option("--prompt", request.prompts, "the same as an option")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--height", request.height, "pixels");
  command.add_option("--width", request.width, "pixels");
  command.add_option("--resolution", request.resolution,
                     "144p, 240p, 360p, 480p, 720p, 1080p, 2k, 4k in place of height and width");
  command.add_option("--aspect-ratio", request.aspect_ratio, "height:width with --resolution; 9:16 is landscape");
  command.add_option("--frames,--num-frames", options.frames,
                     "number of frames, or a length such as 2s, 4s, 16s; 1 makes a picture");
  command.add_option("--loops", request.loops, "passes of the model, each going on from the end of the one before");
  command.add_flag("--seamless", request.seamless, "lead back to the beginning: the clip can be repeated");
  command.add_option("--condition-frames", request.condition_frames,
                     "frames that a pass is given of what it goes on from");
  command.add_option("--steps,--num-inference-steps", request.steps, "denoising steps");
  command.add_option("--guidance-scale", request.guidance_scale, "how strongly the prompt is followed; 1: no guidance");
  command.add_option("--cache", request.cache,
                     "what is reused between steps: pab, or none; NAME:KEY=VALUE,... sets it (docs/cache.md)");
  command.add_option("--batch", request.batch, "clips at a time (default: what fits, at most 8)");
  command.add_option("--memory", options.memory, "most memory of the process, such as 8GB (default: what is free)");
}

video::Request request_of(const RequestOptions& options) {
  video::Request request = options.request;
  request.prompts.insert(request.prompts.begin(), options.positional.begin(), options.positional.end());
  if (!options.frames.empty()) request.num_frames = video::num_frames_of(options.frames);
  request.memory = parse_bytes(options.memory);
  return request;
}

}  // namespace kinora::cli
