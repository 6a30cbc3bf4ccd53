// The Unigram language model of subwords (Kudo 2018, arXiv:1804.10959): the most likely cut of a text into known pieces
// by Viterbi over byte positions. One model serves both readers, SentencePiece .model files and tokenizer.json.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace kinora::text {

/// Bounds on a vocabulary from a file.
inline constexpr size_t kMaxPieces = 1'000'000;
inline constexpr size_t kMaxPieceBytes = 1024;

enum class PieceKind { kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct Piece {
  std::string text;  // UTF-8
  double score = 0;  // natural logarithm of the piece's probability
  PieceKind kind = PieceKind::kNormal;
};

/// Which reference's arithmetic and rules decide between almost equal cuts.
enum class UnigramRules {
  kSentencePiece,  // float sums; control, unknown, unused and byte pieces never match; user-defined ones always win
  kTokenizers,     // double sums; every piece matches by its score
};

class Unigram {
 public:
  /// The index of a piece is its id. Throws DataError, naming `where`, when there are no or too many pieces, a piece is
  /// too long, twice there or not UTF-8, a score is not finite, a byte piece is not "<0xNN>", or unk_id is out of
  /// range.
  Unigram(std::vector<Piece> pieces, int64_t unk_id, UnigramRules rules, std::string_view where);

  // Moved but not copied: an index points into the pieces, whose places a move keeps.
  Unigram(const Unigram&) = delete;
  Unigram& operator=(const Unigram&) = delete;
  Unigram(Unigram&&) = default;
  Unigram& operator=(Unigram&&) = default;

  struct Cut {
    size_t begin, end;  // bytes of the text
    int64_t id;         // unk_id() for a character that no piece covers
  };
  /// Best cut of `text` (UTF-8), in order. Neighbouring unknown characters are not merged. Time: text x longest piece.
  std::vector<Cut> best_cut(std::string_view text) const;

  /// Id of a piece by its text, -1 when there is none.
  int64_t find(std::string_view text) const;
  const Piece& piece(int64_t id) const { return pieces_.at(static_cast<size_t>(id)); }
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  int64_t unk_id() const { return unk_id_; }
  /// Ids of "<0x00>" .. "<0xFF>", -1 where the vocabulary lacks one.
  const std::array<int64_t, 256>& byte_ids() const { return byte_ids_; }

 private:
  void check_pieces(std::string_view where) const;

  std::vector<Piece> pieces_;
  std::vector<double> scores_;       // by id, as best_cut adds them
  std::vector<int32_t> sorted_;      // ids of the pieces that can match, by text
  std::array<size_t, 257> first_{};  // sorted_ range of each first byte
  std::unordered_map<std::string_view, int64_t> by_text_;
  std::array<int64_t, 256> byte_ids_{};
  int64_t unk_id_;
  double unk_score_ = 0;
  bool single_precision_;
};

}  // namespace kinora::text
