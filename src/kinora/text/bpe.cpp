#include "kinora/text/bpe.h"

#include <algorithm>
#include <queue>
#include <tuple>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/text/unicode.h"
#include "kinora/text/unigram.h"

namespace kinora::text {
namespace {

uint64_t key_of(int64_t left, int64_t right) {
  return (static_cast<uint64_t>(left) << 32) | static_cast<uint64_t>(right);
}

std::string byte_piece(size_t value) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return concat("<0x", kDigits[value / 16], kDigits[value % 16], ">");
}

void check_pieces(const std::vector<std::string>& pieces, std::string_view where) {
  if (pieces.empty() || pieces.size() > kMaxPieces) {
    throw DataError(concat(where, ": a vocabulary of ", pieces.size(), " pieces"), "fetch the tokenizer again.");
  }
  for (const std::string& piece : pieces) {
    if (piece.empty() || piece.size() > kMaxPieceBytes || !is_utf8(piece)) {
      throw DataError(concat(where, ": the piece \"", printable(piece), "\" is empty, of more than ", kMaxPieceBytes,
                             " bytes or not UTF-8"),
                      "fetch the tokenizer again.");
    }
  }
}

std::array<char32_t, 256> make_byte_characters() {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool shows = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    table[b] = shows ? b : next++;
  }
  return table;
}

const std::array<char32_t, 256>& byte_characters() {
  static const std::array<char32_t, 256> table = make_byte_characters();
  return table;
}

}  // namespace

Bpe::Bpe(std::vector<std::string> pieces, const Merges& merges, BpeOptions options, std::string_view where)
    : pieces_(std::move(pieces)), options_(std::move(options)) {
  check_pieces(pieces_, where);
  for (size_t id = 0; id < pieces_.size(); ++id) {
    if (!by_text_.emplace(pieces_[id], static_cast<int64_t>(id)).second) {
      throw DataError(concat(where, ": the piece \"", printable(pieces_[id]), "\" is there twice"),
                      "fetch the tokenizer again.");
    }
  }
  for (size_t b = 0; b < byte_ids_.size(); ++b) byte_ids_[b] = find(byte_piece(b));
  for (const auto& [left, right] : merges) {
    const int64_t a = find(left), b = find(right), both = find(left + right);
    if (a < 0 || b < 0 || both < 0) {
      throw DataError(concat(where, ": \"", printable(left), "\" and \"", printable(right),
                             "\" are merged, but not all of it are pieces"),
                      "fetch the tokenizer again.");
    }
    merges_.insert_or_assign(key_of(a, b), Merge{static_cast<int64_t>(merges_.size()), both});
  }
  if (options_.unk_token) {
    unk_id_ = find(*options_.unk_token);
    if (unk_id_ < 0) {
      throw DataError(concat(where, ": the unknown token \"", printable(*options_.unk_token), "\" is no piece"),
                      "fetch the tokenizer again.");
    }
  }
}

int64_t Bpe::find(std::string_view text) const {
  const auto found = by_text_.find(std::string(text));
  return found == by_text_.end() ? -1 : found->second;
}

std::vector<int64_t> Bpe::characters(std::string_view word) const {
  std::vector<int64_t> ids;
  bool was_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, utf8_length(word[at]));
    at += character.size();
    if (const int64_t id = find(character); id >= 0) {
      ids.push_back(id);
      was_unknown = false;
      continue;
    }
    const auto byte_of = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    if (options_.byte_fallback &&
        std::all_of(character.begin(), character.end(), [&](char c) { return byte_of(c) >= 0; })) {
      for (const char c : character) ids.push_back(byte_of(c));
      was_unknown = false;
    } else if (unk_id_ >= 0) {
      if (!was_unknown || !options_.fuse_unk) ids.push_back(unk_id_);
      was_unknown = true;
    }
  }
  return ids;
}

// A chain of symbols and a heap of the merges that its neighbours allow; what a merge has made stale is passed over.
void Bpe::merge(std::vector<int64_t>& ids) const {
  const auto count = static_cast<int64_t>(ids.size());
  std::vector<int64_t> before(ids.size()), behind(ids.size());
  using Candidate = std::tuple<int64_t, int64_t, int64_t, int64_t>;  // rank, place, left id, right id
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto consider = [&](int64_t left) {
    const int64_t right = left < 0 ? count : behind[static_cast<size_t>(left)];
    if (left < 0 || right >= count) return;
    const int64_t a = ids[static_cast<size_t>(left)], b = ids[static_cast<size_t>(right)];
    if (const auto found = merges_.find(key_of(a, b)); found != merges_.end())
      heap.emplace(found->second.rank, left, a, b);
  };
  for (int64_t i = 0; i < count; ++i) before[static_cast<size_t>(i)] = i - 1, behind[static_cast<size_t>(i)] = i + 1;
  for (int64_t i = 0; i < count; ++i) consider(i);
  while (!heap.empty()) {
    const auto [rank, place, a, b] = heap.top();
    heap.pop();
    const auto left = static_cast<size_t>(place);
    if (ids[left] != a || behind[left] >= count || ids[static_cast<size_t>(behind[left])] != b) continue;
    const auto right = static_cast<size_t>(behind[left]);
    ids[left] = merges_.at(key_of(a, b)).id;
    ids[right] = -1;
    behind[left] = behind[right];
    if (behind[left] < count) before[static_cast<size_t>(behind[left])] = place;
    consider(before[left]);
    consider(place);
  }
  std::erase(ids, -1);
}

void Bpe::encode(std::string_view word, std::vector<int64_t>& ids) const {
  if (options_.ignore_merges) {
    if (const int64_t id = find(word); id >= 0) return ids.push_back(id);
  }
  std::vector<int64_t> own = characters(word);
  merge(own);
  ids.insert(ids.end(), own.begin(), own.end());
}

std::string bytes_as_characters(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) append_utf8(out, byte_characters()[static_cast<unsigned char>(c)]);
  return out;
}

std::optional<std::string> characters_as_bytes(std::string_view text) {
  const auto& table = byte_characters();
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto found = std::find(table.begin(), table.end(), next_code_point(text, at));
    if (found == table.end()) return std::nullopt;
    out += static_cast<char>(found - table.begin());
  }
  return out;
}

}  // namespace kinora::text
