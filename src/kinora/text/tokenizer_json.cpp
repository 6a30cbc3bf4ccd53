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
                  "tokenizers of T5, mT5 and UMT5 are; so are their spiece.model files.");
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

Unigram parse_model(const JsonObject& model, bool& byte_fallback) {
  // Files written by old versions of the library leave the type out.
  const std::string kind = model.string_or("type", "Unigram");
  if (kind != "Unigram") refuse_kind(model, "model", kind);
  byte_fallback = model.bool_or("byte_fallback", false);
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
  return {std::move(pieces), unk_id, UnigramRules::kTokenizers, model.what()};
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
  } else {
    refuse_kind(object, "pre_tokenizer", kind);
  }
}

void parse_template(const JsonObject& object, PipelineParts& pipeline) {
  const std::string kind = object.require_string("type");
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

std::vector<AddedToken> parse_added(const Json& list, const JsonObject& root, const Unigram& unigram) {
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
    const int64_t known = unigram.find(token.content);
    const bool clash = known >= 0 ? known != token.id : token.id < unigram.size();
    if (token.content.empty() || token.content.size() > kMaxPieceBytes || clash || !ids.insert(token.id).second ||
        !contents.insert(token.content).second) {
      throw DataError(concat(root.what(), ": the added token \"", printable(token.content), "\" with id ", token.id,
                             " is empty, too long, there twice, or has the id of another piece"),
                      "fetch the tokenizer again.");
    }
    out.push_back(std::move(token));
  }
  int64_t next = unigram.size();
  for (const int64_t id : ids) {
    if (id >= unigram.size() && id != next++) {
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
  Unigram unigram = parse_model(root.require_object("model"), byte_fallback);
  std::vector<AddedToken> added;
  if (root.has("added_tokens")) added = parse_added(root.require_array("added_tokens"), root, unigram);
  PipelineParts parts{.unigram = std::move(unigram),
                      .byte_fallback = byte_fallback,
                      .added = std::move(added),
                      .normalizers = {},
                      .pre_tokenizers = {},
                      .before = {},
                      .after = {}};
  if (root.has("normalizer")) parse_normalizer(root.require_object("normalizer"), parts.normalizers);
  if (root.has("pre_tokenizer")) parse_pre_tokenizer(root.require_object("pre_tokenizer"), parts.pre_tokenizers);
  if (root.has("post_processor")) parse_template(root.require_object("post_processor"), parts);
  if (root.has("decoder")) {
    const JsonObject decoder = root.require_object("decoder");
    const std::string kind = decoder.require_string("type");
    if (kind != "Metaspace") refuse_kind(decoder, "decoder", kind);
  }
  return Pipeline(std::move(parts));
}

Pipeline read_tokenizer_json(const std::filesystem::path& file) {
  return parse_tokenizer_json(read_file(file, kJsonTokenizerBytes), concat("'", file.string(), "'"));
}

}  // namespace kinora::text
