// Prompts as Open-Sora's pipeline takes them apart: score suffixes, segments for the loops of a long clip, a JSON
// suffix with references, and mask strategies. Text only; what the numbers do to latents is the pipeline's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kinora::text {

/// Throws UsageError for a prompt that is empty or blank (is_blank), longer than 64 KiB, or not UTF-8.
void check_prompt(std::string_view prompt);

struct PromptScores {
  std::optional<double> aesthetic = 6.5;
  std::optional<double> motion;
  std::optional<std::string> camera_motion;
};
/// Appends " aesthetic score: 6.5." and its like, in that order, each unless the prompt has its label already. Throws
/// UsageError for a score that is no number and a camera motion that check_text refuses.
std::string append_scores(std::string_view prompt, const PromptScores& scores);

/// "|0|text|2|text": a text for each range of loops. A prompt that does not begin with "|0|" is one text for all of
/// them.
struct PromptSegments {
  std::vector<std::string> texts;
  std::vector<int64_t> loops;  // where each begins, ascending; empty for a plain prompt

  /// Throws UsageError for a loop that is not a number or not after the one before, and for a loop without text.
  static PromptSegments split(std::string_view prompt);
  std::string merge() const;
  /// The text of loop `loop` >= 0.
  const std::string& at(int64_t loop) const;
};

/// A prompt whose end, from the first "{", is JSON with "reference_path" and/or "mask_strategy".
struct PromptWithReferences {
  std::string prompt;
  std::string reference_path;
  std::string mask_strategy;
};
/// Throws UsageError for a second "{", text that is not such JSON, and other keys.
PromptWithReferences split_json_suffix(std::string_view prompt);

/// One group of a mask strategy: frames of a reference that stand in the clip. Negative starts count from the end.
struct MaskGroup {
  int64_t loop = 0;
  int64_t reference = 0;
  int64_t reference_start = 0;
  int64_t target_start = 0;
  int64_t length = 1;
  double edit_ratio = 0;
};
/// Groups by ";", fields by ",", missing ones as in MaskGroup. Throws UsageError for more than 6 fields or no number.
std::vector<MaskGroup> parse_mask_strategy(std::string_view strategy);
/// The multiple of `step` nearest to `value` below `limit`, as Open-Sora aligns mask starts (half goes down).
int64_t find_nearest_point(int64_t value, int64_t step, int64_t limit);

/// The whole way of a prompt: segments, scores and cleaning of each, merged again. Throws UsageError also where
/// cleaning leaves nothing of a segment: the clip would be made from the scores alone.
std::string prepare_open_sora_prompt(std::string_view prompt, const PromptScores& scores = {});

}  // namespace kinora::text
