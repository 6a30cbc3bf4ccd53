// What a user asks for, and what becomes of it once the model's defaults have filled the gaps.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/cache/budget.h"
#include "kinora/cache/calibration.h"
#include "kinora/text/prompt.h"
#include "kinora/video/conditioning.h"
#include "kinora/video/spread.h"

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
  std::vector<ReferencePtr> references;      ///< of every prompt, before those that its JSON suffix names
  std::string mask_strategy;                 ///< text/prompt.h; empty: the first reference's picture at frame 0
  ReferencePtr before, after;                ///< clips that the new frames go on from, and lead to
  int64_t loops = 1;                         ///< passes of the model, each going on from the frames before it
  bool seamless = false;                     ///< one pass more, from the end back to the beginning
  std::optional<int64_t> condition_frames;   ///< that a pass is given at an end; rounded down to whole latent frames
  double condition_edit = 0;                 ///< their edit ratio below 1: 0 keeps them, more lets them change
  std::string cache = "none";                ///< what is reused between steps: cache/registry.h
  uint64_t cache_memory = 0;                 ///< bytes that the cache keeps at most; 0: what it takes
  std::string parallel = "auto";             ///< how rows lie over ranks: video/spread.h
  int ranks = 0;                             ///< to be planned for; 0: those of the pipeline
  int64_t batch = 0;                         ///< clips at a time; 0: what fits into the memory, at most 8
  uint64_t memory = 0;                       ///< resident bytes of the process at most; 0: what the machine has
  std::string chunk = "auto";                ///< the denoiser's blocks in pieces: "auto" where memory asks, "none"
  bool keeps_clips = true;                   ///< until the last is made; false where Hooks::on_frames takes them
  bool collects_frames = false;              ///< on_frames holds them until a clip is whole, as GIF needs
};

/// "defaults" of model_index.json.
struct Defaults {
  int64_t height = 480, width = 854, num_frames = 51, steps = 30;
  double guidance_scale = 7.0, fps = 24.0;
  bool plain_prompt = false;  ///< "prompt": "plain": no cleaning, no score suffixes

  /// Throws DataError naming the key, also for a value that no request may have.
  static Defaults from_json(const Json& json, const std::string& what);
};

/// What one clip is given.
struct Given {
  std::vector<ReferencePtr> references;
  std::vector<text::MaskGroup> strategy;
};

/// How the denoiser's blocks run in pieces: the same bits in less memory.
struct Pieces {
  int64_t budget = 0;   ///< bytes of activations while one block runs, at most; 0: blocks run whole
  int64_t bytes = 0;    ///< what they take of it
  double slowdown = 1;  ///< predicted time of a call over that of whole blocks
};

/// "blocks in pieces: 310.0 MB of activations, x1.02 of the time (predicted)"
std::string text_of(const Pieces& pieces);

/// Bytes that the weights of a part may take in memory while the rest of them is streamed from its files; none: all of
/// them stay.
struct WeightBudgets {
  std::optional<uint64_t> text_encoder, transformer;
};

/// A request with nothing open. The clip is made in passes of num_frames; where a pass meets another, or a clip that is
/// there, it is given `head` or `tail` of it, which the result holds once.
struct Plan {
  std::vector<std::string> prompts;         ///< as the user wrote them
  std::vector<text::PromptSegments> texts;  ///< as the text encoder gets them
  std::optional<std::string> negative_text;
  int64_t height, width, num_frames, steps;
  double guidance_scale, fps;
  uint64_t seed;
  int64_t batch;
  std::vector<Given> given;  ///< for each prompt
  ReferencePtr before, after;
  int64_t loops = 1;
  bool seamless = false;
  std::optional<int64_t> condition_frames;
  double condition_edit = 0;
  Span head, tail;  ///< set by Pipeline::plan
  std::string cache = "none";
  std::optional<cache::Measured> expected;  ///< what a calibration says of a cache that it chose
  uint64_t cache_memory = 0;
  /// Set by Pipeline::plan: what the cache takes at most for each row of a block's output where memory is no limit, and what
  /// cache_memory came to.
  int64_t kept_row_bytes = 0;
  int64_t held_values = 0;      ///< of a block's output, that its loop over blocks holds beside them
  bool keeps_in_place = false;  ///< cache/method.h
  std::optional<cache::BudgetUse> cache_budget;
  Spread spread;  ///< set by Pipeline::plan
  bool keeps_clips = true, collects_frames = false;
  bool is_decode_only = false;  ///< of a job that is denoised
  bool branches_apart = false;  ///< of guidance, each in a call of its own
  bool one_by_one = false;      ///< weights of one part in memory at a time
  std::string chunk = "auto";
  Pieces pieces;                               ///< set by Pipeline::plan
  WeightBudgets weights;                       ///< set by Pipeline::plan
  std::string quantize = "none";               ///< of the model; set by Pipeline::plan
  Json adapters = Json::array();               ///< of the model: name, strength, crc32; set by Pipeline::plan
  std::shared_ptr<const Scheduler> scheduler;  ///< made by Pipeline::plan

  int64_t passes() const { return loops + (seamless ? 1 : 0); }
  bool has_head(int64_t pass) const { return pass > 0 || before; }
  bool has_tail(int64_t pass) const { return pass + 1 == passes() && (seamless || after); }
  /// Frames of the result: of `before`, what each pass adds, of `after`.
  int64_t total_frames() const;
  bool is_guided() const { return guidance_scale != 1.0; }
  /// Rows of one model call, and calls of a step: a clip's branches, and each clip of a batch.
  int64_t rows() const { return batch * (is_guided() && !branches_apart ? 2 : 1); }
  int64_t calls_of_step() const { return is_guided() && branches_apart ? 2 : 1; }
  /// Whether some frames of a pass are given to it.
  bool is_given() const;
  /// Frame rate as Open-Sora tells it to the model: 120 stands for a picture.
  double model_fps() const { return num_frames == 1 ? 120.0 : fps; }
};

/// Throws UsageError, which names what would work, for prompts that are none, sizes that are not positive or smaller than
/// `least_side` pixels, less than one frame or step, numbers that are not finite, scores for a model of plain prompts, and
/// references, mask strategies, segments and loops that do not fit one another, a chunk that is none; and as
/// load_reference for the files that a prompt's JSON suffix names.
Plan make_plan(const Request& request, const Defaults& defaults, int64_t least_side = 1);

}  // namespace kinora::video
