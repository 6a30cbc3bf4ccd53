#include "kinora/text/tokenizer.h"

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/text/tokenizer_json.h"

namespace kinora::text {
namespace {

constexpr int64_t kMaxExtraIds = 10'000;

// The ids that transformers adds for a folder without a say in it; models with sentinels of their own (mT5) need none.
int64_t extra_ids_of(const std::filesystem::path& folder, const SentencePieceSpec& spec) {
  const auto config = folder / "tokenizer_config.json";
  int64_t fallback = 100;
  for (const Piece& piece : spec.pieces) {
    if (piece.text == "<extra_id_0>") fallback = 0;
  }
  if (!std::filesystem::exists(config)) return fallback;
  const Json json = read_json_file(config);
  return JsonObject(json, concat("'", config.string(), "'")).int_or("extra_ids", fallback, 0, kMaxExtraIds);
}

}  // namespace

Tokenizer::Tokenizer(Pipeline pipeline) : pipeline_(std::move(pipeline)), pad_id_(pipeline_.find("<pad>")) {}

Tokenizer Tokenizer::t5(SentencePieceSpec spec, int64_t extra_ids, std::string_view where) {
  KINORA_ASSERT(extra_ids >= 0 && extra_ids <= kMaxExtraIds);
  std::vector<AddedToken> added;
  const auto special = [&](std::string content, int64_t id) {
    added.push_back({.content = std::move(content), .id = id, .special = true});
  };
  for (size_t id = 0; id < spec.pieces.size(); ++id) {
    const std::string& text = spec.pieces[id].text;
    if (text == "<pad>" || text == "</s>" || text == "<unk>" || text.starts_with("<extra_id_")) {
      special(text, static_cast<int64_t>(id));
    }
  }
  for (int64_t i = extra_ids - 1; i >= 0; --i) {
    special(concat("<extra_id_", i, ">"), static_cast<int64_t>(spec.pieces.size()));
    spec.pieces.push_back({added.back().content, 0, PieceKind::kNormal});
  }
  const CharsMap charsmap(spec.charsmap, where);
  Unigram unigram(std::move(spec.pieces), spec.unk_id, UnigramRules::kTokenizers, where);
  const int64_t eos = unigram.find("</s>");
  if (eos < 0) throw DataError(concat(where, ": no piece \"</s>\""), "a T5 tokenizer has one.");
  return Tokenizer(Pipeline(PipelineParts{.model = std::move(unigram),
                                          .added = std::move(added),
                                          .normalizers = {charsmap},
                                          .pre_tokenizers = {WhitespaceSplit{}, Metaspace{}},
                                          .before = {},
                                          .after = {eos}}));
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const auto spiece = folder / "spiece.model";
  if (std::filesystem::exists(spiece)) {
    SentencePieceSpec spec = SentencePieceSpec::read(spiece);
    const int64_t extra_ids = extra_ids_of(folder, spec);
    return t5(std::move(spec), extra_ids, concat("'", spiece.string(), "'"));
  }
  const auto json = folder / "tokenizer.json";
  if (std::filesystem::exists(json)) return Tokenizer(read_tokenizer_json(json));
  throw UsageError(concat("no tokenizer in ", folder.string()), "a folder with spiece.model or tokenizer.json works.");
}

Encoded Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const std::vector<int64_t>&before = pipeline_.parts().before, &after = pipeline_.parts().after;
  std::vector<int64_t> inner = pipeline_.encode(text);
  const int64_t num_special = options.add_eos ? static_cast<int64_t>(before.size() + after.size()) : 0;
  const int64_t length = static_cast<int64_t>(inner.size()) + num_special;
  if (options.max_length > 0 && length > options.max_length) {
    if (!options.truncate) {
      throw UsageError(concat("the text has ", length, " tokens; at most ", options.max_length, " are taken"),
                       "shorten it, or let it be cut.");
    }
    if (options.max_length < num_special) {
      throw UsageError(
          concat("max_length ", options.max_length, " leaves no room for the ", num_special, " special tokens"));
    }
    inner.resize(static_cast<size_t>(options.max_length - num_special));
  }
  Encoded out;
  if (options.add_eos) out.ids = before;
  out.ids.insert(out.ids.end(), inner.begin(), inner.end());
  if (options.add_eos) out.ids.insert(out.ids.end(), after.begin(), after.end());
  out.attention_mask.assign(out.ids.size(), 1);
  if (options.pad_to > 0) {
    const auto padded = static_cast<size_t>(options.pad_to);
    if (padded < out.ids.size()) {
      throw UsageError(concat("the text has ", out.ids.size(), " tokens, more than the padded length ", padded),
                       "set max_length to the padded length.");
    }
    if (pad_id_ < 0) throw UsageError("the tokenizer has no padding token \"<pad>\"", "encode without padding.");
    out.ids.resize(padded, pad_id_);
    out.attention_mask.resize(padded, 0);
  }
  return out;
}

}  // namespace kinora::text
