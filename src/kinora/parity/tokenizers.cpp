// Runners of the tokenizers and of prompt cleaning. Ids of all texts come one after another, with the length of each.
#include "kinora/base/error.h"
#include "kinora/parity/runners.h"
#include "kinora/text/prompt.h"
#include "kinora/text/prompt_cleaning.h"
#include "kinora/text/sentencepiece_model.h"
#include "kinora/text/tokenizer.h"
#include "kinora/text/tokenizer_json.h"

namespace kinora::parity {
namespace {

using Ids = std::vector<int64_t>;

std::vector<std::string> texts_of(const Case& c) { return c.value("texts").get<std::vector<std::string>>(); }

std::filesystem::path data_file(const Case& c, const char* argument) {
  return c.beside(JsonObject(c.call.at("args"), "call.args").require_string(argument));
}

template <typename Encode>
Outputs flat_ids(const Case& c, const Encode& encode) {
  Ids ids;
  Ids lengths;
  for (const std::string& text : texts_of(c)) {
    const Ids own = encode(text);
    ids.insert(ids.end(), own.begin(), own.end());
    lengths.push_back(static_cast<int64_t>(own.size()));
  }
  Outputs out;
  out.tensors = {{"ids", at::tensor(ids, at::kLong)}, {"lengths", at::tensor(lengths, at::kLong)}};
  return out;
}

/// Texts in, texts out; the only tensor is their number.
template <typename Change>
Outputs changed(const Case& c, const char* result, const Change& change) {
  Json lines = Json::array();
  for (const std::string& text : texts_of(c)) lines.push_back(change(text));
  Outputs out;
  out.tensors["count"] = at::tensor(Ids{static_cast<int64_t>(lines.size())}, at::kLong);
  out.results[result] = lines;
  return out;
}

Outputs sentencepiece_encode(const Case& c) {
  const auto model = text::SentencePiece::load(data_file(c, "model"));
  const bool eos = JsonObject(c.call.at("args"), "call.args").bool_or("eos", true);
  return flat_ids(c, [&](const std::string& text) {
    Ids ids = model.encode(text);
    if (eos) ids.push_back(1);
    return ids;
  });
}

Outputs sentencepiece_normalize(const Case& c) {
  const auto model = text::SentencePiece::load(data_file(c, "model"));
  return changed(c, "normalized", [&](const std::string& text) { return model.normalize(text); });
}

Outputs sentencepiece_decode(const Case& c) {
  const auto model = text::SentencePiece::load(data_file(c, "model"));
  Json decoded = Json::array();
  Outputs out = flat_ids(c, [&](const std::string& text) {
    Ids ids = model.encode(text);
    decoded.push_back(model.decode(ids));
    return ids;
  });
  out.results["decoded"] = decoded;
  return out;
}

Outputs tokenizer_json(const Case& c) {
  const text::Tokenizer tokenizer(text::read_tokenizer_json(data_file(c, "file")));
  return flat_ids(c, [&](const std::string& text) { return tokenizer.encode(text).ids; });
}

/// There and back.
Outputs tokenizer_json_decode(const Case& c) {
  const text::Tokenizer tokenizer(text::read_tokenizer_json(data_file(c, "file")));
  Json decoded = Json::array();
  Outputs out = flat_ids(c, [&](const std::string& text) {
    Ids ids = tokenizer.encode(text).ids;
    decoded.push_back(tokenizer.decode(ids));
    return ids;
  });
  out.results["decoded"] = decoded;
  return out;
}

Outputs t5_tokenizer(const Case& c) {
  constexpr int64_t kExtraIds = 4;  // what the cases' tokenizer was made with
  const auto tokenizer = text::Tokenizer::t5(text::SentencePieceSpec::read(data_file(c, "model")), kExtraIds);
  const JsonObject args(c.call.at("args"), "call.args");
  if (!args.bool_or("padded", false)) {
    return flat_ids(c, [&](const std::string& text) { return tokenizer.encode(text).ids; });
  }
  const int64_t length = args.require_int("max_length", 1);
  std::vector<Tensor> ids;
  std::vector<Tensor> masks;
  for (const std::string& text : texts_of(c)) {
    const text::Encoded encoded = tokenizer.encode(text, {.max_length = length, .pad_to = length});
    ids.push_back(at::tensor(encoded.ids, at::kLong));
    masks.push_back(at::tensor(encoded.attention_mask, at::kLong));
  }
  Outputs out;
  out.tensors = {{"input_ids", at::stack(ids)}, {"attention_mask", at::stack(masks)}};
  return out;
}

Outputs clean_latte(const Case& c) {
  const bool whole = JsonObject(c.call.at("args"), "call.args").bool_or("clean_caption", false);
  return changed(c, "cleaned", [&](const std::string& text) { return text::clean_latte(text, whole); });
}

Outputs clean_wan(const Case& c) { return changed(c, "cleaned", text::clean_wan); }

Outputs clean_open_sora(const Case& c) {
  Outputs out;
  for (const std::string& text : texts_of(c)) {
    out.values["once"].push_back(text::clean_open_sora_caption(text));
    out.values["twice"].push_back(text::clean_open_sora(text));
  }
  return out;
}

/// An entry of `settings` is [aesthetic, motion, camera motion]; null leaves one out.
Outputs append_scores(const Case& c) {
  Outputs out;
  for (const Json& setting : c.value("settings")) {
    text::PromptScores scores{.aesthetic = std::nullopt, .motion = std::nullopt, .camera_motion = std::nullopt};
    if (!setting.at(0).is_null()) scores.aesthetic = setting[0].get<double>();
    if (!setting.at(1).is_null()) scores.motion = setting[1].get<double>();
    if (!setting.at(2).is_null()) scores.camera_motion = setting[2].get<std::string>();
    Json prompts = Json::array();
    for (const std::string& text : texts_of(c)) prompts.push_back(text::append_scores(text, scores));
    out.values["prompts"].push_back(prompts);
  }
  return out;
}

Outputs segments(const Case& c) {
  Outputs out;
  for (const std::string& text : texts_of(c)) {
    const auto split = text::PromptSegments::split(text);
    Json per_loop = Json::array();
    for (int64_t loop = 0; loop < c.value("loops").get<int64_t>(); ++loop) per_loop.push_back(split.at(loop));
    const Json loops = split.loops.empty() ? Json(nullptr) : Json(split.loops);
    out.values["segments"].push_back(
        {{"parts", split.texts}, {"loops", loops}, {"merged", split.merge()}, {"per_loop", per_loop}});
  }
  for (const Json& text : c.value("json_texts")) {
    const auto split = text::split_json_suffix(text.get<std::string>());
    out.values["json"].push_back(Json::array({split.prompt, split.reference_path, split.mask_strategy}));
  }
  return out;
}

/// `points`: find_nearest_point of each [value, step, limit] in `nearest`.
Outputs mask_strategies(const Case& c) {
  Outputs out;
  for (const Json& strategy : c.value("strategies")) {
    Json groups = Json::array();
    for (const text::MaskGroup& g : text::parse_mask_strategy(strategy.get<std::string>())) {
      groups.push_back(Json::array({g.loop, g.reference, g.reference_start, g.target_start, g.length, g.edit_ratio}));
    }
    out.values["parsed"].push_back(groups);
  }
  for (const Json& near : c.value("nearest")) {
    out.values["points"].push_back(
        text::find_nearest_point(near.at(0).get<int64_t>(), near.at(1).get<int64_t>(), near.at(2).get<int64_t>()));
  }
  return out;
}

}  // namespace

void add_tokenizers(Registry& registry) {
  registry.add("SentencePieceProcessor", "forward", sentencepiece_encode);
  registry.add("SentencePieceProcessor", "normalize", sentencepiece_normalize);
  registry.add("SentencePieceProcessor", "decode", sentencepiece_decode);
  registry.add("tokenizers.Tokenizer", "forward", tokenizer_json);
  registry.add("tokenizers.Tokenizer", "decode", tokenizer_json_decode);
  registry.add("T5Tokenizer", "forward", t5_tokenizer);
  registry.add("LattePipeline._text_preprocessing", "clean", clean_latte);
  registry.add("prompt_clean", "clean", clean_wan);
  registry.add("OpenSoraPipeline", "text_preprocessing", clean_open_sora);
  registry.add("OpenSoraPipeline", "append_score_to_prompts", append_scores);
  registry.add("OpenSoraPipeline", "segments", segments);
  registry.add("OpenSoraPipeline", "parse_mask_strategy", mask_strategies);
}

}  // namespace kinora::parity
