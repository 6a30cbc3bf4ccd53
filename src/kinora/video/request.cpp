#include "kinora/video/request.h"

#include <cmath>
#include <random>

#include "kinora/base/error.h"
#include "kinora/video/tables.h"

namespace kinora::video {
namespace {

constexpr int64_t kMostPixels = 16384, kMostFrames = 65536, kMostSteps = 10000, kMostClips = 4096;
constexpr double kMostGuidance = 1000, kMostFps = 1000;
constexpr int64_t kMostAtOnce = 8;
constexpr uint64_t kRandomSeeds = 1'000'000;

int64_t in_range(const char* what, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    throw UsageError(concat(what, " cannot be ", value), concat("choose ", low, " to ", high));
  return value;
}

double in_range(const char* what, double value, double low, double high) {
  if (!(value >= low && value <= high))
    throw UsageError(concat(what, " cannot be ", value), concat("choose ", low, " to ", high));
  return value;
}

std::string prepared(const std::string& prompt, const Request& request, const Defaults& defaults) {
  text::check_prompt(prompt);
  if (defaults.plain_prompt) return prompt;
  const text::PromptWithReferences parts = text::split_json_suffix(prompt);
  if (!parts.reference_path.empty() || !parts.mask_strategy.empty()) {
    throw UsageError("a prompt with reference_path or mask_strategy asks for a reference clip",
                     "this version makes clips from text alone");
  }
  // Loops extend a clip; the first one is the clip.
  const std::string all = text::prepare_open_sora_prompt(parts.prompt, request.scores.value_or(text::PromptScores{}));
  return text::PromptSegments::split(all).at(0);
}

void choose_size(Plan& plan, const Request& request, const Defaults& defaults) {
  const bool named = !request.resolution.empty() || !request.aspect_ratio.empty();
  if (named && (request.height || request.width)) {
    throw UsageError("the size is given twice, as height or width and as a resolution",
                     "give --height and --width, or --resolution and --aspect-ratio");
  }
  plan.height = request.height.value_or(defaults.height), plan.width = request.width.value_or(defaults.width);
  if (!named) return;
  const TableSize& size = image_size(request.resolution.empty() ? "480p" : request.resolution,
                                     request.aspect_ratio.empty() ? "9:16" : request.aspect_ratio);
  plan.height = size.height, plan.width = size.width;
}

}  // namespace

Defaults Defaults::from_json(const Json& json, const std::string& what) {
  const JsonObject object(json, what);
  Defaults d;
  d.height = object.int_or("height", d.height, 1, kMostPixels);
  d.width = object.int_or("width", d.width, 1, kMostPixels);
  d.num_frames = object.int_or("num_frames", d.num_frames, 1, kMostFrames);
  d.steps = object.int_or("steps", d.steps, 1, kMostSteps);
  d.guidance_scale = object.number_or("guidance_scale", d.guidance_scale);
  d.fps = object.number_or("fps", d.fps);
  const std::string prompt = object.string_or("prompt", "open_sora");
  if (prompt != "plain" && prompt != "open_sora")
    throw DataError(concat(what, ": prompt \"", prompt, "\""), "it is \"plain\" or \"open_sora\"");
  d.plain_prompt = prompt == "plain";
  object.warn_unknown();
  return d;
}

Plan make_plan(const Request& request, const Defaults& defaults, int64_t least_side) {
  Plan plan{};
  if (request.prompts.empty())
    throw UsageError("there is no prompt",
                     "say what the clip shows: kinora generate \"a red ball moves to the right on grass\"");
  in_range("the number of prompts", static_cast<int64_t>(request.prompts.size()), 1, kMostClips);
  for (const std::string& prompt : request.prompts) {
    plan.prompts.push_back(prompt);
    plan.texts.push_back(prepared(prompt, request, defaults));
  }
  if (request.negative_prompt) {
    text::check_prompt(*request.negative_prompt);
    plan.negative_text = *request.negative_prompt;
  }
  choose_size(plan, request, defaults);
  in_range("the height", plan.height, least_side, kMostPixels);
  in_range("the width", plan.width, least_side, kMostPixels);
  plan.num_frames = in_range("the number of frames", request.num_frames.value_or(defaults.num_frames), 1, kMostFrames);
  plan.steps = in_range("the number of steps", request.steps.value_or(defaults.steps), 1, kMostSteps);
  plan.guidance_scale =
      in_range("the guidance scale", request.guidance_scale.value_or(defaults.guidance_scale), 0.0, kMostGuidance);
  plan.fps = in_range("the frame rate", request.fps.value_or(defaults.fps), 0.01, kMostFps);
  plan.seed = request.seed ? *request.seed : std::random_device{}() % (kRandomSeeds + 1);
  plan.batch = in_range("the batch", request.batch, 0, kMostClips);
  if (plan.batch == 0) plan.batch = std::min<int64_t>(kMostAtOnce, static_cast<int64_t>(plan.prompts.size()));
  return plan;
}

}  // namespace kinora::video
