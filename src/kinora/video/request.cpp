#include "kinora/video/request.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/utf8.h"
#include "kinora/text/prompt_cleaning.h"
#include "kinora/text/unicode.h"
#include "kinora/video/tables.h"

namespace kinora::video {
namespace {

constexpr int64_t kMostPixels = 16384, kMostFrames = 65536, kMostSteps = 10000, kMostClips = 4096, kMostLoops = 1024;
constexpr double kMostEdit = 0.99;  // at 1 frames would begin as they are given, taken for noise
constexpr double kMostGuidance = 1000, kLeastFps = 0.01, kMostFps = 1000;
constexpr int64_t kMostAtOnce = 8;
constexpr uint64_t kRandomSeeds = 1'000'000;

template <typename Failure = UsageError, typename Number>
Number in_range(const std::string& what, Number value, Number low, Number high) {
  if (!(value >= low && value <= high))
    throw Failure(concat(what, " cannot be ", value), concat("choose ", low, " to ", high));
  return value;
}

/// The text of each loop, and what the JSON suffix asks for; both are Open-Sora's.
text::PromptSegments prepared(const std::string& prompt, const Request& request, const Defaults& defaults,
                              text::PromptWithReferences& suffix) {
  text::check_prompt(prompt);
  if (defaults.plain_prompt) return text::PromptSegments::split(prompt);
  suffix = text::split_json_suffix(prompt);
  return text::PromptSegments::split(
      text::prepare_open_sora_prompt(suffix.prompt, request.scores.value_or(text::PromptScores{})));
}

Given given_of(const Request& request, const text::PromptWithReferences& suffix, int64_t passes) {
  Given given{request.references, {}};
  for (ReferencePtr& reference : load_references(suffix.reference_path))
    given.references.push_back(std::move(reference));
  const std::string& strategy = suffix.mask_strategy.empty() ? request.mask_strategy : suffix.mask_strategy;
  given.strategy = text::parse_mask_strategy(strategy);
  if (strategy.empty() && !given.references.empty()) given.strategy = {text::MaskGroup{}};
  const auto references = static_cast<int64_t>(given.references.size());
  for (const text::MaskGroup& group : given.strategy) {
    if (group.reference < 0 || group.reference >= references) {
      throw UsageError(concat("the mask strategy \"", printable(strategy), "\" takes reference ", group.reference,
                              " of ", references),
                       "references count from 0; name their files with --reference");
    }
    if (group.loop < 0 || group.loop >= passes) {
      throw UsageError(
          concat("the mask strategy \"", printable(strategy), "\" speaks of loop ", group.loop, " of ", passes),
          "loops count from 0; ask for more with --loops");
    }
    in_range("the edit ratio of a mask strategy", group.edit_ratio, 0.0, 1.0);
  }
  return given;
}

void check_segments(const text::PromptSegments& segments, int64_t passes) {
  if (segments.loops.empty() || segments.loops.back() < passes) return;
  throw UsageError(
      concat("the prompt has a text from loop ", segments.loops.back(), " on, and the clip is made in ", passes,
             passes == 1 ? " loop" : " loops"),
      concat("loops count from 0: ask for --loops ", segments.loops.back() + 1, ", or leave that text out"));
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
  d.guidance_scale = in_range<DataError>(what + ": guidance_scale",
                                         object.number_or("guidance_scale", d.guidance_scale), 0.0, kMostGuidance);
  d.fps = in_range<DataError>(what + ": fps", object.number_or("fps", d.fps), kLeastFps, kMostFps);
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
  in_range("the number of prompts", static_cast<int64_t>(request.prompts.size()), int64_t{1}, kMostClips);
  if (defaults.plain_prompt && request.scores) {
    throw UsageError("this model takes prompts as they are, without scores",
                     "leave --aes, --flow and --camera-motion out, or write them into the prompt");
  }
  plan.loops = in_range("the number of loops", request.loops, int64_t{1}, kMostLoops);
  plan.cache = request.cache, plan.cache_memory = request.cache_memory;
  if (request.chunk != "auto" && request.chunk != "none")
    throw UsageError(concat("chunk cannot be \"", printable(request.chunk, 200), "\""),
                     "\"auto\" runs in pieces where memory asks for it, \"none\" never");
  plan.chunk = request.chunk;
  plan.seamless = request.seamless, plan.before = request.before, plan.after = request.after;
  if (plan.seamless && plan.after) {
    throw UsageError("a clip that leads to another cannot lead back to its own beginning",
                     "leave --seamless or the clip after it out");
  }
  if (request.condition_frames)
    plan.condition_frames =
        in_range("the number of condition frames", *request.condition_frames, int64_t{1}, kMostFrames);
  plan.condition_edit = in_range("the edit ratio of condition frames", request.condition_edit, 0.0, kMostEdit);
  for (const std::string& prompt : request.prompts) {
    text::PromptWithReferences suffix;
    plan.prompts.push_back(prompt);
    plan.texts.push_back(prepared(prompt, request, defaults, suffix));
    check_segments(plan.texts.back(), plan.passes());
    plan.given.push_back(given_of(request, suffix, plan.passes()));
  }
  if (request.negative_prompt) {
    text::check_text(*request.negative_prompt, "negative prompt");  // may be empty
    plan.negative_text =
        defaults.plain_prompt ? *request.negative_prompt : text::clean_open_sora(*request.negative_prompt);
  }
  choose_size(plan, request, defaults);
  in_range("the height", plan.height, least_side, kMostPixels);
  in_range("the width", plan.width, least_side, kMostPixels);
  plan.num_frames =
      in_range("the number of frames", request.num_frames.value_or(defaults.num_frames), int64_t{1}, kMostFrames);
  plan.steps = in_range("the number of steps", request.steps.value_or(defaults.steps), int64_t{1}, kMostSteps);
  plan.guidance_scale =
      in_range("the guidance scale", request.guidance_scale.value_or(defaults.guidance_scale), 0.0, kMostGuidance);
  plan.fps = in_range("the frame rate", request.fps.value_or(defaults.fps), kLeastFps, kMostFps);
  plan.seed = request.seed ? *request.seed : std::random_device{}() % (kRandomSeeds + 1);
  plan.keeps_clips = request.keeps_clips;
  plan.collects_frames = request.collects_frames;
  plan.batch = in_range("the batch", request.batch, int64_t{0}, kMostClips);
  if (plan.batch == 0) plan.batch = std::min<int64_t>(kMostAtOnce, static_cast<int64_t>(plan.prompts.size()));
  return plan;
}

std::string text_of(const Pieces& pieces) {
  const double rounded = std::round(pieces.slowdown * 100) / 100;
  return concat("blocks in pieces: ", human_bytes(static_cast<uint64_t>(pieces.bytes)), " of activations, x", rounded,
                " of the time (predicted)");
}

bool Plan::is_given() const {
  return passes() > 1 || before || after ||
         std::any_of(given.begin(), given.end(), [](const Given& g) { return !g.references.empty(); });
}

int64_t Plan::total_frames() const {
  int64_t total = (before ? before->frames.frames : 0) + (after ? after->frames.frames : 0);
  for (int64_t pass = 0; pass < passes(); ++pass)
    total += std::max<int64_t>(1, num_frames - (has_head(pass) ? head.frames : 0) - (has_tail(pass) ? tail.frames : 0));
  return total;
}

}  // namespace kinora::video
