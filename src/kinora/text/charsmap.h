// The precompiled character map of SentencePiece models: a double-array trie (Yata et al. 2007, as laid out by
// darts-clone) from UTF-8 sequences to offsets into a block of NUL-terminated replacements. Two readers of the same map
// exist in the field and differ: SentencePiece takes the longest rule, the tokenizers library the shortest one within a
// grapheme cluster.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kinora::text {

class CharsMap {
 public:
  CharsMap() = default;
  /// `blob`: uint32 little endian byte count of the trie, the trie, the replacements. An empty blob maps nothing.
  /// `where` names the file in errors. Throws DataError when sizes or offsets leave the blob.
  CharsMap(std::string_view blob, std::string_view where);

  struct Rule {
    size_t length;                 // bytes of the input that the rule takes
    std::string_view replacement;  // lives as long as the map
  };
  /// The longest (shortest) rule that is a prefix of `text`.
  std::optional<Rule> longest(std::string_view text) const;
  std::optional<Rule> shortest(std::string_view text) const;

  /// Rewrites `text` as the normalizer `Precompiled` of the tokenizers library does.
  std::string rewrite(std::string_view text) const;

 private:
  template <typename Visit>
  void walk(std::string_view text, Visit visit) const;
  std::string_view replacement_at(uint32_t offset) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace kinora::text
