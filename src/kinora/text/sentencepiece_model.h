// SentencePiece .model files (Kudo and Richardson 2018, arXiv:1808.06226): our own bounded reader of the protobuf
// message, and encoding, normalizing and decoding exactly as the reference library does for Unigram models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/text/charsmap.h"
#include "kinora/text/prefix_finder.h"
#include "kinora/text/unigram.h"

namespace kinora::text {

/// What a .model file says, before a model is made of it.
struct SentencePieceSpec {
  std::vector<Piece> pieces;
  int64_t unk_id = -1;
  bool byte_fallback = false;
  std::string unk_surface = " \xE2\x81\x87 ";  // what decoding writes for the unknown id
  std::string charsmap;                        // precompiled map, see CharsMap
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_is_suffix = false;

  /// Parses a serialized ModelProto. `where` names the file in errors. Throws DataError for anything malformed and for
  /// models that are not Unigram (BPE, word, char), naming the kind.
  static SentencePieceSpec parse(std::string_view bytes, std::string_view where);
  /// Throws UsageError when there is no such file, DataError as parse does.
  static SentencePieceSpec read(const std::filesystem::path& file);
};

class SentencePiece {
 public:
  /// Throws DataError as Unigram and CharsMap do, and when byte fallback lacks byte pieces.
  explicit SentencePiece(SentencePieceSpec spec, std::string_view where = "sentencepiece model");
  static SentencePiece load(const std::filesystem::path& file);

  /// The text as the model sees it: mapped, white space cleaned and escaped to U+2581.
  std::string normalize(std::string_view text) const;
  /// Ids without any special ones. Throws UsageError for text that check_text refuses.
  std::vector<int64_t> encode(std::string_view text) const;
  /// Text of ids; control ids are invisible. Throws UsageError for an id out of range.
  std::string decode(const std::vector<int64_t>& ids) const;

  const Unigram& unigram() const { return unigram_; }
  const SentencePieceSpec& spec() const { return spec_; }  // its pieces have moved to unigram()

 private:
  CharsMap::Rule prefix(std::string_view text) const;

  SentencePieceSpec spec_;
  CharsMap charsmap_;
  PrefixFinder user_defined_;  // never normalized, always one piece
  Unigram unigram_;
};

}  // namespace kinora::text
