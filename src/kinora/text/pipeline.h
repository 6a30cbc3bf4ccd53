// The pipeline of a `tokenizer.json` (the tokenizers library): added tokens are cut out of the text, the rest is
// normalized, cut into words, and each word into pieces by Unigram or BPE; a template adds the special ids. T5Tokenizer is
// one such pipeline.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kinora/text/bpe.h"
#include "kinora/text/charsmap.h"
#include "kinora/text/prefix_finder.h"
#include "kinora/text/unicode.h"
#include "kinora/text/unigram.h"
#include "kinora/text/word_pattern.h"

namespace kinora::text {

struct AddedToken {
  std::string content;
  int64_t id = 0;
  bool single_word = false;  // matches only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;
  bool normalized = false;  // looked for after normalization instead of before
  bool special = false;     // left out when decoding
};

// Normalizers, in the order of the file.
struct StripEnds {
  bool left, right;
};
struct ReplaceText {
  std::string from, to;
};
/// The one regular expression that converters write: runs of at least two spaces.
struct ReplaceSpaces {
  std::string to;
};
struct PrependText {
  std::string text;
};
using Normalizer = std::variant<CharsMap, StripEnds, ReplaceText, ReplaceSpaces, PrependText, NormalForm>;

// Pre-tokenizers.
struct WhitespaceSplit {};
struct Metaspace {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement = "\xE2\x96\x81";  // U+2581
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};
/// Cuts by a pattern; what lies between its matches is a word too.
struct SplitByPattern {
  WordPattern pattern;
};
/// Cuts by GPT-2's pattern where asked, and writes every byte as a character.
struct ByteLevel {
  bool add_prefix_space = true;
  std::optional<WordPattern> pattern;
};
using PreTokenizer = std::variant<WhitespaceSplit, Metaspace, SplitByPattern, ByteLevel>;

/// How ids become text: U+2581 is a space and the first one goes, or characters are bytes (GPT-2).
enum class DecoderKind { kMetaspace, kByteLevel };

using SubwordModel = std::variant<Unigram, Bpe>;

struct PipelineParts {
  SubwordModel model;
  bool byte_fallback = false;
  std::vector<AddedToken> added;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  std::vector<int64_t> before, after;  // special ids around the text, from the template
  DecoderKind decoder = DecoderKind::kMetaspace;

  /// Largest id + 1, added tokens included.
  int64_t vocab_size() const;
};

/// Of either model: pieces, the id of one (-1: none), the text of one, ids of bytes (-1: none).
int64_t size_of(const SubwordModel& model);
int64_t find_piece(const SubwordModel& model, std::string_view text);

class Pipeline {
 public:
  explicit Pipeline(PipelineParts parts);

  /// Ids of `text` without the template's. Throws UsageError for text that check_text refuses.
  std::vector<int64_t> encode(std::string_view text) const;
  /// Text of ids as the decoder gives it, special tokens left out; bytes that are no UTF-8 become U+FFFD. Throws UsageError for an id out of range.
  std::string decode(const std::vector<int64_t>& ids) const;
  /// Id of an added token or a piece, -1 when there is none.
  int64_t find(std::string_view token) const;
  int64_t vocab_size() const { return parts_.vocab_size(); }
  const PipelineParts& parts() const { return parts_; }

  /// Added tokens (indices of parts().added) and how each is written where it is looked for.
  struct Candidates {
    std::vector<size_t> tokens;
    PrefixFinder texts;
  };

 private:
  PipelineParts parts_;
  Candidates raw_, normalized_;
};

}  // namespace kinora::text
