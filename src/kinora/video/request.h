// What a user asks for, and what becomes of it once the model's defaults have filled the gaps.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/text/prompt.h"

namespace kinora {
class Scheduler;
}

namespace kinora::video {

/// What is left out comes from the model's defaults.
struct Request {
  std::vector<std::string> prompts;            ///< a clip each
  std::optional<std::string> negative_prompt;  ///< what guidance moves away from; none: the model's null caption
  std::optional<int64_t> height, width;        ///< pixels; the decoder rounds down to its blocks of 8
  std::string resolution, aspect_ratio;        ///< a size of tables.h in their stead: "480p", "9:16"
  std::optional<int64_t> num_frames;
  std::optional<int64_t> steps;
  std::optional<double> guidance_scale;      ///< 1: none, and half the work
  std::optional<uint64_t> seed;              ///< none: drawn from 0 .. 10^6; clip i has seed + i
  std::optional<double> fps;                 ///< told to the model and kept in the file
  std::optional<text::PromptScores> scores;  ///< Open-Sora's suffixes
  int64_t batch = 0;                         ///< clips at a time; 0: what fits into the memory, at most 8
  uint64_t memory = 0;                       ///< resident bytes of the process at most; 0: what the machine has
  bool keeps_clips = true;                   ///< until the last is made; false where Hooks::on_frames takes them
};

/// "defaults" of model_index.json.
struct Defaults {
  int64_t height = 480, width = 854, num_frames = 51, steps = 30;
  double guidance_scale = 7.0, fps = 24.0;
  bool plain_prompt = false;  ///< "prompt": "plain": no cleaning, no score suffixes

  /// Throws DataError naming the key, also for a value that no request may have.
  static Defaults from_json(const Json& json, const std::string& what);
};

/// A request with nothing open.
struct Plan {
  std::vector<std::string> prompts;  ///< as the user wrote them
  std::vector<std::string> texts;    ///< as the text encoder gets them
  std::optional<std::string> negative_text;
  int64_t height, width, num_frames, steps;
  double guidance_scale, fps;
  uint64_t seed;
  int64_t batch;
  bool keeps_clips = true;
  bool one_by_one = false;                     ///< weights of one part in memory at a time
  std::shared_ptr<const Scheduler> scheduler;  ///< made by Pipeline::plan

  bool is_guided() const { return guidance_scale != 1.0; }
  /// Frame rate as Open-Sora tells it to the model: 120 stands for a picture.
  double model_fps() const { return num_frames == 1 ? 120.0 : fps; }
};

/// Throws UsageError, which names what would work, for prompts that are none, sizes that are not positive or smaller than
/// `least_side` pixels, less than one frame or step, numbers that are not finite, and scores for a model of plain prompts.
Plan make_plan(const Request& request, const Defaults& defaults, int64_t least_side = 1);

}  // namespace kinora::video
