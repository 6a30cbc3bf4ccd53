// Byte pair encoding of words (Sennrich et al. 2016): from single characters on, the pair that was merged first in
// training is merged first, the leftmost of equal ones. GPT-2's form of it writes bytes as characters.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kinora::text {

struct BpeOptions {
  bool byte_fallback = false;                 ///< an unknown character as its bytes, "<0xNN>"
  bool fuse_unk = false;                      ///< neighbouring unknown characters are one token
  bool ignore_merges = false;                 ///< a word that is a piece is taken as it is
  std::optional<std::string> unk_token = {};  ///< none: unknown characters leave no token
};

class Bpe {
 public:
  using Merges = std::vector<std::pair<std::string, std::string>>;
  /// The index of a piece is its id. Throws DataError, naming `where`, for no or too many pieces, a piece that is there
  /// twice, empty, too long or not UTF-8, a merge of or into something that is no piece, an unknown unk_token.
  Bpe(std::vector<std::string> pieces, const Merges& merges, BpeOptions options, std::string_view where);

  /// Appends the ids of a word. Time: length times its logarithm.
  void encode(std::string_view word, std::vector<int64_t>& ids) const;

  /// Id of a piece by its text, -1 when there is none.
  int64_t find(std::string_view text) const;
  const std::string& text_of(int64_t id) const { return pieces_.at(static_cast<size_t>(id)); }
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  /// Ids of "<0x00>" .. "<0xFF>", -1 where the vocabulary lacks one.
  const std::array<int64_t, 256>& byte_ids() const { return byte_ids_; }

 private:
  struct Merge {
    int64_t rank, id;
  };
  std::vector<int64_t> characters(std::string_view word) const;
  void merge(std::vector<int64_t>& ids) const;

  std::vector<std::string> pieces_;
  std::unordered_map<std::string, int64_t> by_text_;
  std::unordered_map<uint64_t, Merge> merges_;  // by both ids
  std::array<int64_t, 256> byte_ids_{};
  BpeOptions options_;
  int64_t unk_id_ = -1;
};

/// GPT-2's spelling of bytes as characters that show: those that do stand for themselves, the others follow from U+0100
/// on. In its form for ByteLevel of tokenizer.json.
std::string bytes_as_characters(std::string_view bytes);
/// The way back; nullopt where a character stands for no byte.
std::optional<std::string> characters_as_bytes(std::string_view text);

}  // namespace kinora::text
