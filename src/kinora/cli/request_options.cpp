#include "kinora/cli/request_options.h"

#include <charconv>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"
#include "kinora/video/tables.h"

namespace kinora::cli {
namespace {

/// "30dB", "30 dB" or "30", as the number is written.
std::string number_with(const std::string& text, const char* option, std::string_view unit, const char* example) {
  std::string_view number = text;
  if (number.ends_with(unit)) number.remove_suffix(unit.size());
  while (number.ends_with(' ')) number.remove_suffix(1);
  double value = 0;
  const auto [end, failed] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (failed != std::errc() || end != number.data() + number.size() || !(value > 0) || value > 1000)
    throw UsageError(concat(option, " cannot be ", printable(text)), concat("write it as ", example));
  return std::string(number);
}

}  // namespace

void add_making_options(CLI::App& command, RequestOptions& options, bool frames_is_taken) {
  video::Request& request = options.request;
  command.add_option("--height", request.height, "pixels");
  command.add_option("--width", request.width, "pixels");
  command.add_option("--resolution", request.resolution,
                     "144p, 240p, 360p, 480p, 720p, 1080p, 2k, 4k in place of height and width");
  command.add_option("--aspect-ratio", request.aspect_ratio, "height:width with --resolution; 9:16 is landscape");
  command.add_option(frames_is_taken ? "--num-frames" : "--frames,--num-frames", options.frames,
                     "number of frames, or a length such as 2s, 4s, 16s; 1 makes a picture");
  command.add_option("--steps,--num-inference-steps", request.steps, "denoising steps");
  command.add_option("--guidance-scale", request.guidance_scale, "how strongly the prompt is followed; 1: no guidance");
  command.add_option("--memory", options.memory, "most memory of the process, such as 8GB (default: what is free)");
}

void add_request_options(CLI::App& command, RequestOptions& options) {
  video::Request& request = options.request;
  command.add_option("prompts", options.positional, "what the clip shows; several prompts give several clips");
  command.add_option("--prompt", request.prompts, "the same as an option")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_making_options(command, options);
  command.add_option("--loops", request.loops, "passes of the model, each going on from the end of the one before");
  command.add_flag("--seamless", request.seamless, "lead back to the beginning: the clip can be repeated");
  command.add_option("--condition-frames", request.condition_frames,
                     "frames that a pass is given of what it goes on from");
  command.add_option("--cache", request.cache,
                     "what is reused between steps: auto, pab, planned and others, or none; NAME:KEY=VALUE,... sets it "
                     "(docs/cache.md)");
  command.add_option("--quality", options.quality,
                     "take the fastest cache that keeps the clip that near to the plain one, such as 30dB");
  command.add_option("--speed", options.speed, "take the best cache that is that much faster, such as 2x");
  command.add_option("--cache-memory", options.cache_memory,
                     "most memory of what the cache keeps, such as 3GB (default: what it takes)");
  command.add_option("--ranks", request.ranks, "processes of this host that make a clip together")
      ->check(CLI::Range(1, 4096));
  command.add_option("--parallel", request.parallel,
                     "how its rows lie over them: auto, dsp, ulysses, ring, megatron, guidance and others "
                     "(docs/parallel.md)");
  command.add_option("--chunk", request.chunk,
                     "the denoiser's activations in pieces: auto (where --memory or the machine asks for it; the same "
                     "bits, a little slower), or none");
  command.add_option("--batch", request.batch, "clips at a time (default: what fits, at most 8)");
}

video::Request request_of(const RequestOptions& options) {
  video::Request request = options.request;
  request.prompts.insert(request.prompts.begin(), options.positional.begin(), options.positional.end());
  if (!options.frames.empty()) request.num_frames = video::num_frames_of(options.frames);
  request.memory = parse_bytes(options.memory), request.cache_memory = parse_bytes(options.cache_memory);
  if (!options.quality.empty() || !options.speed.empty()) {
    if (request.cache != "none" && request.cache != "auto")
      throw UsageError(concat("--cache ", request.cache, " leaves nothing to choose by --quality or --speed"),
                       "leave one of them out");
    if (!options.quality.empty() && !options.speed.empty())
      throw UsageError("--quality and --speed at once", "leave one of them out");
    request.cache = options.quality.empty()
                        ? concat("auto:speed=", number_with(options.speed, "--speed", "x", "2x"))
                        : concat("auto:quality=", number_with(options.quality, "--quality", "dB", "30dB"));
  }
  return request;
}

}  // namespace kinora::cli
