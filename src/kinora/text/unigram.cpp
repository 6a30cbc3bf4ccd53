#include "kinora/text/unigram.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

constexpr double kUnkPenalty = 10.0;  // below the worst piece, as both references have it

unsigned char byte_at(std::string_view text, size_t i) { return static_cast<unsigned char>(text[i]); }

// Value of "<0xNN>", -1 for anything else.
int byte_value(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

Unigram::Unigram(std::vector<Piece> pieces, int64_t unk_id, UnigramRules rules, std::string_view where)
    : pieces_(std::move(pieces)), unk_id_(unk_id), single_precision_(rules == UnigramRules::kSentencePiece) {
  check_pieces(where);
  byte_ids_.fill(-1);
  by_text_.reserve(pieces_.size());
  for (size_t id = 0; id < pieces_.size(); ++id) {
    if (!by_text_.emplace(pieces_[id].text, static_cast<int64_t>(id)).second) {
      throw DataError(concat(where, ": the piece \"", pieces_[id].text, "\" is there twice"),
                      "fetch the tokenizer again.");
    }
    const int value = byte_value(pieces_[id].text);
    if (value >= 0) byte_ids_[static_cast<size_t>(value)] = static_cast<int64_t>(id);
  }

  double lowest = DBL_MAX;
  float highest = FLT_MIN;  // the smallest positive float, as in SentencePiece: log probabilities never exceed it
  for (const Piece& p : pieces_) {
    if (single_precision_ && p.kind != PieceKind::kNormal) continue;
    lowest = std::min(lowest, p.score);
    highest = std::max(highest, static_cast<float>(p.score));
  }
  unk_score_ = single_precision_ ? static_cast<double>(static_cast<float>(lowest) - static_cast<float>(kUnkPenalty))
                                 : lowest - kUnkPenalty;
  for (size_t id = 0; id < pieces_.size(); ++id) {
    const Piece& p = pieces_[id];
    double score = p.score;
    if (single_precision_ && p.kind == PieceKind::kUserDefined) {
      score = static_cast<double>(static_cast<float>(p.text.size()) * highest) - 0.1;
    }
    scores_.push_back(score);
    const bool matches = !single_precision_ || p.kind == PieceKind::kNormal || p.kind == PieceKind::kUserDefined;
    if (matches && !p.text.empty()) sorted_.push_back(static_cast<int32_t>(id));
  }
  std::sort(sorted_.begin(), sorted_.end(), [&](int32_t a, int32_t b) {
    return pieces_[static_cast<size_t>(a)].text < pieces_[static_cast<size_t>(b)].text;
  });
  for (const int32_t id : sorted_) ++first_[byte_at(pieces_[static_cast<size_t>(id)].text, 0) + 1U];
  for (size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
}

void Unigram::check_pieces(std::string_view where) const {
  const auto refuse = [&](const std::string& why) {
    throw DataError(concat(where, ": ", why), "fetch the tokenizer again.");
  };
  if (pieces_.empty() || pieces_.size() > kMaxPieces) {
    refuse(concat("a vocabulary of ", pieces_.size(), " pieces; 1 to ", kMaxPieces, " are taken"));
  }
  if (unk_id_ < 0 || unk_id_ >= size()) refuse(concat("the unknown id ", unk_id_, " is not below ", size()));
  for (size_t id = 0; id < pieces_.size(); ++id) {
    const Piece& p = pieces_[id];
    if (p.text.size() > kMaxPieceBytes) refuse(concat("piece ", id, " has ", p.text.size(), " bytes"));
    if (!is_utf8(p.text)) refuse(concat("piece ", id, " is not valid UTF-8"));
    if (!std::isfinite(p.score)) refuse(concat("the score of piece ", id, " is not finite"));
    if (p.kind == PieceKind::kByte && byte_value(p.text) < 0) {
      refuse(concat("byte piece ", id, " is \"", p.text, "\"; \"<0x00>\" to \"<0xFF>\" are taken"));
    }
  }
}

std::vector<Unigram::Cut> Unigram::best_cut(std::string_view text) const {
  struct Node {
    double score = 0;
    int64_t id = -1;
    size_t begin = 0;
  };
  std::vector<Node> best(text.size() + 1);
  const auto offer = [&](size_t begin, size_t end, int64_t id, double score) {
    Node& node = best[end];
    const double sum = score + best[begin].score;
    if (node.id >= 0 && !(sum > node.score)) return;
    node = {single_precision_ ? static_cast<double>(static_cast<float>(sum)) : sum, id, begin};
  };

  for (size_t begin = 0; begin < text.size();) {
    const size_t character = std::min(utf8_length(text[begin]), text.size() - begin);
    bool covered = false;
    // sorted_[low, high) holds the pieces that agree with the text so far; each byte narrows it.
    size_t low = first_[byte_at(text, begin)];
    size_t high = first_[byte_at(text, begin) + 1U];
    for (size_t length = 1; low < high && begin + length <= text.size(); ++length) {
      const Piece& shortest = pieces_[static_cast<size_t>(sorted_[low])];
      if (shortest.text.size() == length) {
        const int64_t id = sorted_[low];
        offer(begin, begin + length, id, scores_[static_cast<size_t>(id)]);
        covered = covered || length == character;
        ++low;
      }
      if (begin + length == text.size()) break;
      const unsigned char next = byte_at(text, begin + length);
      const auto text_of = [&](int32_t id) -> const std::string& { return pieces_[static_cast<size_t>(id)].text; };
      const auto from = sorted_.begin() + static_cast<std::ptrdiff_t>(low);
      const auto to = sorted_.begin() + static_cast<std::ptrdiff_t>(high);
      const auto lower =
          std::partition_point(from, to, [&](int32_t id) { return byte_at(text_of(id), length) < next; });
      const auto upper =
          std::partition_point(lower, to, [&](int32_t id) { return byte_at(text_of(id), length) == next; });
      low = static_cast<size_t>(lower - sorted_.begin());
      high = static_cast<size_t>(upper - sorted_.begin());
    }
    if (!covered) offer(begin, begin + character, unk_id_, unk_score_);
    begin += character;
  }

  std::vector<Cut> cuts;
  for (size_t end = text.size(); end > 0; end = best[end].begin) cuts.push_back({best[end].begin, end, best[end].id});
  std::reverse(cuts.begin(), cuts.end());
  return cuts;
}

int64_t Unigram::find(std::string_view text) const {
  const auto found = by_text_.find(text);
  return found == by_text_.end() ? -1 : found->second;
}

}  // namespace kinora::text
