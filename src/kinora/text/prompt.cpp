#include "kinora/text/prompt.h"

#include <charconv>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/base/json.h"
#include "kinora/text/prompt_cleaning.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

std::vector<std::string_view> split_at(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  while (true) {
    const size_t end = text.find(separator);
    out.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return out;
    text.remove_prefix(end + 1);
  }
}

// The whole of `text`, but for white space, as a number.
template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  text = strip(text);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Not printf: a program's locale may write "6,5", which no model was trained on.
std::string one_decimal(double value) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 1);
  KINORA_ASSERT(error == std::errc());
  return std::string(text, end);
}

}  // namespace

void check_prompt(std::string_view prompt) {
  check_text(prompt, "prompt");
  if (is_blank(prompt))
    throw UsageError("the prompt is empty", "say what the clip shows, e.g. \"a red ball on green grass\".");
}

std::string append_scores(std::string_view prompt, const PromptScores& scores) {
  if (scores.camera_motion) check_text(*scores.camera_motion, "camera motion");
  std::string out(prompt);
  const auto append = [&](std::string_view label, const std::string& value) {
    if (prompt.find(concat(label, ":")) == std::string_view::npos) out += concat(" ", label, ": ", value, ".");
  };
  for (const auto& score : {scores.aesthetic, scores.motion}) {
    if (score && (!std::isfinite(*score) || std::abs(*score) > 1e6))
      throw UsageError("a score is not a number below 1,000,000");
  }
  if (scores.aesthetic) append("aesthetic score", one_decimal(*scores.aesthetic));
  if (scores.motion) append("motion score", one_decimal(*scores.motion));
  if (scores.camera_motion) append("camera motion", *scores.camera_motion);
  return out;
}

PromptSegments PromptSegments::split(std::string_view prompt) {
  if (!prompt.starts_with("|0|")) return {{std::string(prompt)}, {}};
  const auto fields = split_at(prompt.substr(1), '|');
  PromptSegments out;
  for (size_t i = 0; i < fields.size(); i += 2) {
    const auto loop = parse_number<int64_t>(fields[i]);
    if (!loop || i + 1 == fields.size() || is_blank(fields[i + 1]) ||
        (!out.loops.empty() && *loop <= out.loops.back())) {
      throw UsageError(concat("the prompt's segment \"|", printable(fields[i]),
                              "|\" is not a loop number above the one before, with a text"),
                       "write \"|0|first text|2|text from loop 2 on\".");
    }
    out.loops.push_back(*loop);
    out.texts.emplace_back(strip(fields[i + 1]));
  }
  return out;
}

std::string PromptSegments::merge() const {
  if (loops.empty()) return texts.at(0);
  std::string out;
  for (size_t i = 0; i < texts.size(); ++i) out += concat("|", loops[i], "|", texts[i]);
  return out;
}

const std::string& PromptSegments::at(int64_t loop) const {
  size_t found = 0;
  for (size_t i = 0; i < loops.size(); ++i) {
    if (loops[i] <= loop) found = i;
  }
  return texts.at(found);
}

PromptWithReferences split_json_suffix(std::string_view prompt) {
  const size_t start = prompt.find('{');
  if (start == std::string_view::npos) return {std::string(prompt), {}, {}};
  const char* hint =
      "end the prompt with {\"reference_path\": \"a.png\", \"mask_strategy\": \"0\"}, or leave braces out.";
  if (prompt.find('{', start + 1) != std::string_view::npos)
    throw UsageError("the prompt has more than one \"{\"", hint);
  PromptWithReferences out{std::string(prompt.substr(0, start)), {}, {}};
  try {
    const Json json =
        parse_json(prompt.substr(start), {.max_bytes = kMaxTextBytes, .max_depth = 4}, "the prompt's JSON");
    const JsonObject object(json, "the prompt's JSON");
    out.reference_path = object.string_or("reference_path", "");
    out.mask_strategy = object.string_or("mask_strategy", "");
    object.refuse_unknown();
  } catch (const DataError& e) {
    throw UsageError(e.what(), hint);  // it came with the request, not from a file
  }
  return out;
}

std::vector<MaskGroup> parse_mask_strategy(std::string_view strategy) {
  std::vector<MaskGroup> out;
  if (strategy.empty()) return out;
  for (const std::string_view text : split_at(strategy, ';')) {
    const auto refuse = [&] {
      throw UsageError(
          concat("the mask strategy's group \"", printable(text), "\" is not 1 to 6 numbers"),
          "write loop,reference,reference start,target start,length,edit ratio; for example \"0,0,-5,0,5\".");
    };
    const auto fields = split_at(text, ',');
    if (fields.size() > 6) refuse();
    MaskGroup group;
    int64_t* const whole[] = {&group.loop, &group.reference, &group.reference_start, &group.target_start,
                              &group.length};
    for (size_t i = 0; i < fields.size(); ++i) {
      if (i < 5) {
        const auto value = parse_number<int64_t>(fields[i]);
        if (!value) refuse();
        *whole[i] = *value;
      } else {
        const auto value = parse_number<double>(fields[i]);
        if (!value || !std::isfinite(*value)) refuse();
        group.edit_ratio = *value;
      }
    }
    out.push_back(group);
  }
  return out;
}

int64_t find_nearest_point(int64_t value, int64_t step, int64_t limit) {
  KINORA_ASSERT(value >= 0 && step > 0 && limit >= 0);
  int64_t t = value / step;
  if (2 * (value % step) > step && t < limit / step - 1) ++t;
  return t * step;
}

std::string prepare_open_sora_prompt(std::string_view prompt, const PromptScores& scores) {
  check_prompt(prompt);
  PromptSegments segments = PromptSegments::split(prompt);
  for (std::string& text : segments.texts) {
    if (is_blank(clean_open_sora(text))) {
      throw UsageError(concat("nothing is left of the prompt \"", printable(text), "\" after cleaning"),
                       "say in English words what the clip shows; ideographs, links and symbols are dropped.");
    }
    text = clean_open_sora(append_scores(text, scores));
  }
  return segments.merge();
}

}  // namespace kinora::text
