// What a clip is to be, as options of a command: prompts, size, length, steps, guidance, batch, memory.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "kinora/video/request.h"

namespace kinora::cli {

struct RequestOptions {
  video::Request request;               ///< what the parser can fill by itself
  std::vector<std::string> positional;  ///< prompts
  std::string frames, memory, cache_memory;
  std::string quality, speed;  ///< what "auto" goes by
};

/// Prompts as arguments and --prompt; --height, --width, --resolution, --aspect-ratio, --frames, --loops, --seamless,
/// --condition-frames, --steps, --guidance-scale, --cache, --cache-memory, --quality, --speed, --ranks, --parallel, --chunk,
/// --batch, --memory.
void add_request_options(CLI::App& command, RequestOptions& options);

/// Of these, those that say how a clip is made and not what it shows: sizes, --num-frames (and, unless `frames_is_taken`,
/// --frames), --steps, --guidance-scale, --memory.
void add_making_options(CLI::App& command, RequestOptions& options, bool frames_is_taken = false);

/// Throws UsageError for a length, an amount of memory, a quality or a speed that is none. Prompts may be missing.
video::Request request_of(const RequestOptions& options);

}  // namespace kinora::cli
