#include "kinora/text/tokenizer_json.h"

#include <set>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

constexpr size_t kMaxAddedTokens = 100'000;

[[noreturn]] void refuse_kind(const JsonObject& object, std::string_view role, std::string_view kind) {
  throw DataError(concat(object.what(), ": the ", role, " \"", printable(kind), "\" is not supported"),
                  "tokenizers of T5, mT5, UMT5, Llama and OPT are; so are T5's spiece.model files.");
}

std::string base64(std::string_view text, std::string_view where) {
  std::string out;
  uint32_t bits = 0;
  int filled = 0;
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  for (const char c : text) {
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) throw DataError(concat(where, ": the character map is not base64"), "fetch the tokenizer again.");
    bits = (bits << 6) | static_cast<uint32_t>(value);
    filled += 6;
    if (filled >= 8) {
      filled -= 8;
      out += static_cast<char>((bits >> filled) & 0xFF);
    }
  }
  return out;
}

JsonObject object_of(const Json& value, const JsonObject& parent, std::string_view part) {
  return {value, concat(parent.what(), " ", part)};
}

/// "a b" in older files, ["a", "b"] in newer ones.
std::pair<std::string, std::string> parse_merge(const Json& merge, const JsonObject& model) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    throw DataError(concat(model.what(), ": a merge is not two pieces"), "fetch the tokenizer again.");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

Bpe parse_bpe(const JsonObject& model) {
  for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.string_or(key, "").empty()) refuse_kind(model, key, model.string_or(key, ""));
  }
  if (model.has("dropout") && model.require_number("dropout") != 0) refuse_kind(model, "dropout", "above 0");
  const JsonObject vocab = model.require_object("vocab");
  std::vector<std::string> pieces(vocab.json().size());
  std::vector<bool> is_taken(pieces.size());
  for (const auto& [text, id] : vocab.json().items()) {
    // Not by require_int, which looks through all the keys that were asked for.
    const int64_t n = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (n < 0 || n >= static_cast<int64_t>(pieces.size()) || is_taken[static_cast<size_t>(n)]) {
      throw DataError(concat(model.what(), ": ids of pieces are not each of 0 to ", pieces.size() - 1, " once"),
                      "fetch the tokenizer again.");
    }
    is_taken[static_cast<size_t>(n)] = true;
    pieces[static_cast<size_t>(n)] = text;
  }
  Bpe::Merges merges;
  for (const Json& merge : model.require_array("merges")) merges.push_back(parse_merge(merge, model));
  BpeOptions options{.byte_fallback = model.bool_or("byte_fallback", false),
                     .fuse_unk = model.bool_or("fuse_unk", false),
                     .ignore_merges = model.bool_or("ignore_merges", false)};
  if (model.has("unk_token")) options.unk_token = model.require_string("unk_token");
  return {std::move(pieces), merges, std::move(options), model.what()};
}

SubwordModel parse_model(const JsonObject& model, bool& byte_fallback) {
  // Files written by old versions of the library leave the type out.
  const std::string kind = model.string_or("type", "Unigram");
  if (kind != "Unigram" && kind != "BPE") refuse_kind(model, "model", kind);
  byte_fallback = model.bool_or("byte_fallback", false);
  if (kind == "BPE") return parse_bpe(model);
  std::vector<Piece> pieces;
  const Json& vocab = model.require_array("vocab");
  pieces.reserve(vocab.size());
  for (const Json& entry : vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      throw DataError(concat(model.what(), ": vocab entry ", pieces.size(), " is not [text, score]"));
    }
    pieces.push_back({entry[0].get<std::string>(), entry[1].get<double>(), PieceKind::kNormal});
  }
  const auto size = static_cast<int64_t>(pieces.size());
  const int64_t unk_id = model.require_int("unk_id", 0, std::max<int64_t>(size - 1, 0));
  return Unigram(std::move(pieces), unk_id, UnigramRules::kTokenizers, model.what());
}

void parse_normalizer(const JsonObject& object, std::vector<Normalizer>& out, int depth = 0) {
  const std::string kind = object.require_string("type");
  if (kind == "Sequence" && depth < 8) {
    for (const Json& step : object.require_array("normalizers")) {
      parse_normalizer(object_of(step, object, "step"), out, depth + 1);
    }
  } else if (kind == "Precompiled") {
    // null where the model was trained without a map
    const std::string blob = base64(object.string_or("precompiled_charsmap", ""), object.what());
    out.emplace_back(CharsMap(blob, object.what()));
  } else if (kind == "Strip") {
    out.emplace_back(StripEnds{object.bool_or("strip_left", true), object.bool_or("strip_right", true)});
  } else if (kind == "Replace") {
    const JsonObject pattern = object.require_object("pattern");
    const std::string to = object.require_string("content");
    if (pattern.has("String")) {
      const std::string from = pattern.require_string("String");
      if (from.empty()) throw DataError(concat(object.what(), ": an empty pattern"));
      out.emplace_back(ReplaceText{from, to});
    } else if (const std::string regex = pattern.string_or("Regex", ""); regex == " {2,}") {
      out.emplace_back(ReplaceSpaces{to});
    } else {
      refuse_kind(object, "pattern", regex);
    }
  } else if (kind == "Prepend") {
    out.emplace_back(PrependText{object.require_string("prepend")});
  } else if (kind == "NFC" || kind == "NFD") {
    out.emplace_back(kind == "NFC" ? NormalForm::kNfc : NormalForm::kNfd);
  } else if (kind == "NFKC" || kind == "NFKD") {
    out.emplace_back(kind == "NFKC" ? NormalForm::kNfkc : NormalForm::kNfkd);
  } else {
    refuse_kind(object, "normalizer", kind);
  }
}

Metaspace parse_metaspace(const JsonObject& object) {
  Metaspace rule;
  rule.replacement = object.string_or("replacement", rule.replacement);
  if (rule.replacement.empty()) throw DataError(concat(object.what(), ": an empty replacement"));
  rule.split = object.bool_or("split", true);
  // add_prefix_space is the older spelling.
  const std::string scheme =
      object.string_or("prepend_scheme", object.bool_or("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") refuse_kind(object, "prepend_scheme", scheme);
  rule.prepend = scheme == "always"  ? Metaspace::Prepend::kAlways
                 : scheme == "first" ? Metaspace::Prepend::kFirst
                                     : Metaspace::Prepend::kNever;
  return rule;
}

ByteLevel parse_byte_level(const JsonObject& object) {
  ByteLevel rule{.add_prefix_space = object.bool_or("add_prefix_space", true), .pattern = std::nullopt};
  if (object.bool_or("use_regex", true)) rule.pattern.emplace(WordPattern::kGpt2);
  return rule;
}

SplitByPattern parse_split(const JsonObject& object) {
  const std::string pattern = object.require_object("pattern").string_or("Regex", "");
  if (!WordPattern::is_known(pattern)) refuse_kind(object, "pattern", pattern);
  const std::string behavior = object.require_string("behavior");
  if (behavior != "Isolated" || object.bool_or("invert", false)) refuse_kind(object, "behavior", behavior);
  return {WordPattern(pattern)};
}

void parse_pre_tokenizer(const JsonObject& object, std::vector<PreTokenizer>& out, int depth = 0) {
  const std::string kind = object.require_string("type");
  if (kind == "Sequence" && depth < 8) {
    for (const Json& step : object.require_array("pretokenizers")) {
      parse_pre_tokenizer(object_of(step, object, "step"), out, depth + 1);
    }
  } else if (kind == "WhitespaceSplit") {
    out.emplace_back(WhitespaceSplit{});
  } else if (kind == "Metaspace") {
    out.emplace_back(parse_metaspace(object));
  } else if (kind == "ByteLevel") {
    out.emplace_back(parse_byte_level(object));
  } else if (kind == "Split") {
    out.emplace_back(parse_split(object));
  } else {
    refuse_kind(object, "pre_tokenizer", kind);
  }
}

void parse_template(const JsonObject& object, PipelineParts& pipeline, int depth = 0) {
  const std::string kind = object.require_string("type");
  if (kind == "ByteLevel") return;  // moves offsets only
  if (kind == "Sequence" && depth < 8) {
    for (const Json& step : object.require_array("processors")) {
      parse_template(object_of(step, object, "step"), pipeline, depth + 1);
    }
    return;
  }
  if (kind != "TemplateProcessing") refuse_kind(object, "post_processor", kind);
  const JsonObject specials = object.require_object("special_tokens");
  bool seen = false;
  for (const Json& value : object.require_array("single")) {
    const JsonObject piece = object_of(value, object, "single");
    if (piece.has("Sequence")) {
      if (seen) throw DataError(concat(object.what(), ": the template has the text twice"));
      seen = true;
      continue;
    }
    const std::string name = piece.require_object("SpecialToken").require_string("id");
    for (const int64_t id : specials.require_object(name).require_ints("ids", 0, pipeline.vocab_size() - 1)) {
      (seen ? pipeline.after : pipeline.before).push_back(id);
    }
  }
  if (!seen) throw DataError(concat(object.what(), ": the template has no text"));
}

/// Llama spells Metaspace out: Replace U+2581 by a space, ByteFallback, Fuse, Strip one space in front.
DecoderKind parse_decoder(const JsonObject& object) {
  const std::string kind = object.require_string("type");
  if (kind == "Metaspace") return DecoderKind::kMetaspace;
  if (kind == "ByteLevel") return DecoderKind::kByteLevel;
  if (kind != "Sequence") refuse_kind(object, "decoder", kind);
  std::string steps;
  for (const Json& step : object.require_array("decoders")) {
    const JsonObject part = object_of(step, object, "step");
    steps += part.require_string("type") + " ";
    const bool strips = !part.has("stop") || (part.int_or("start", 0) == 1 && part.int_or("stop", 0) == 0);
    const bool replaces = !part.has("pattern") || part.string_or("content", "") == " ";
    if (!strips || !replaces) refuse_kind(part, "decoder", part.require_string("type"));
  }
  if (steps != "Replace ByteFallback Fuse Strip ") refuse_kind(object, "decoder", steps);
  return DecoderKind::kMetaspace;
}

std::vector<AddedToken> parse_added(const Json& list, const JsonObject& root, const SubwordModel& model) {
  if (list.size() > kMaxAddedTokens) throw DataError(concat(root.what(), ": ", list.size(), " added tokens"));
  std::vector<AddedToken> out;
  std::set<int64_t> ids;
  std::set<std::string> contents;
  for (const Json& value : list) {
    const JsonObject object = object_of(value, root, "added_tokens");
    AddedToken token;
    token.content = object.require_string("content");
    token.id = object.require_int("id", 0, static_cast<int64_t>(kMaxPieces));
    token.single_word = object.bool_or("single_word", false);
    token.lstrip = object.bool_or("lstrip", false);
    token.rstrip = object.bool_or("rstrip", false);
    token.special = object.bool_or("special", false);
    token.normalized = object.bool_or("normalized", !token.special);
    const int64_t known = find_piece(model, token.content);
    const bool clash = known >= 0 ? known != token.id : token.id < size_of(model);
    if (token.content.empty() || token.content.size() > kMaxPieceBytes || clash || !ids.insert(token.id).second ||
        !contents.insert(token.content).second) {
      throw DataError(concat(root.what(), ": the added token \"", printable(token.content), "\" with id ", token.id,
                             " is empty, too long, there twice, or has the id of another piece"),
                      "fetch the tokenizer again.");
    }
    out.push_back(std::move(token));
  }
  int64_t next = size_of(model);
  for (const int64_t id : ids) {
    if (id >= size_of(model) && id != next++) {
      throw DataError(concat(root.what(), ": the ids of added tokens leave a gap at ", next - 1),
                      "fetch the tokenizer again.");
    }
  }
  return out;
}

}  // namespace

Pipeline parse_tokenizer_json(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, {.max_bytes = kJsonTokenizerBytes}, where);
  const JsonObject root(json, std::string(where));
  bool byte_fallback = false;
  SubwordModel model = parse_model(root.require_object("model"), byte_fallback);
  std::vector<AddedToken> added;
  if (root.has("added_tokens")) added = parse_added(root.require_array("added_tokens"), root, model);
  PipelineParts parts{.model = std::move(model),
                      .byte_fallback = byte_fallback,
                      .added = std::move(added),
                      .normalizers = {},
                      .pre_tokenizers = {},
                      .before = {},
                      .after = {}};
  if (root.has("normalizer")) parse_normalizer(root.require_object("normalizer"), parts.normalizers);
  if (root.has("pre_tokenizer")) parse_pre_tokenizer(root.require_object("pre_tokenizer"), parts.pre_tokenizers);
  if (root.has("post_processor")) parse_template(root.require_object("post_processor"), parts);
  if (root.has("decoder")) parts.decoder = parse_decoder(root.require_object("decoder"));
  return Pipeline(std::move(parts));
}

Pipeline read_tokenizer_json(const std::filesystem::path& file) {
  return parse_tokenizer_json(read_file(file, kJsonTokenizerBytes), concat("'", file.string(), "'"));
}

}  // namespace kinora::text
