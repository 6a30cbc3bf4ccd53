#include "kinora/text/sentencepiece_model.h"

#include <algorithm>
#include <bit>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581
constexpr uint64_t kMaxModelBytes = 64 << 20;

// Reads one protobuf message field by field. Nothing recurses: nested messages are handed out as bytes, and the three
// levels of ModelProto are walked by name.
class Message {
 public:
  Message(std::string_view bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  struct Field {
    uint64_t number;
    uint64_t value;          // varints and fixed widths
    std::string_view bytes;  // strings and messages
  };

  // False at the end of the message.
  bool next(Field& field) {
    if (bytes_.empty()) return false;
    const uint64_t key = varint();
    field = {key >> 3, 0, {}};
    if (field.number == 0 || field.number >= (1U << 29)) fail("a field number out of range");
    switch (key & 7U) {
      case 0: field.value = varint(); return true;
      case 1: field.value = fixed(8); return true;
      case 2: {
        const uint64_t length = varint();
        if (length > bytes_.size()) fail(concat("a field of ", length, " bytes where ", bytes_.size(), " are left"));
        field.bytes = bytes_.substr(0, length);
        bytes_.remove_prefix(length);
        return true;
      }
      case 5: field.value = fixed(4); return true;
      default: fail(concat("wire type ", key & 7U));
    }
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw DataError(concat(where_, ": not a SentencePiece model, or damaged: ", why), "fetch the tokenizer again.");
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (bytes_.empty()) fail("it ends within a number");
      const auto byte = static_cast<unsigned char>(bytes_.front());
      bytes_.remove_prefix(1);
      if (shift == 63 && byte > 1) fail("a number above 64 bits");
      value |= static_cast<uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of more than 10 bytes");
  }

  uint64_t fixed(size_t size) {
    if (bytes_.size() < size) fail("it ends within a number");
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes_[i])) << (8 * i);
    bytes_.remove_prefix(size);
    return value;
  }

  std::string_view bytes_;
  std::string_view where_;
};

Piece parse_piece(std::string_view bytes, std::string_view where) {
  Piece piece;
  Message message(bytes, where);
  for (Message::Field field{}; message.next(field);) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) piece.score = static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(field.value)));
    if (field.number == 3) {
      if (field.value < 1 || field.value > 6)
        throw DataError(concat(where, ": piece type ", field.value, " is unknown"));
      const PieceKind kinds[] = {PieceKind::kNormal,      PieceKind::kUnknown, PieceKind::kControl,
                                 PieceKind::kUserDefined, PieceKind::kUnused,  PieceKind::kByte};
      piece.kind = kinds[field.value - 1];
    }
  }
  if (piece.text.empty()) throw DataError(concat(where, ": a piece without text"), "fetch the tokenizer again.");
  return piece;
}

void parse_trainer(std::string_view bytes, std::string_view where, SentencePieceSpec& spec) {
  Message message(bytes, where);
  for (Message::Field field{}; message.next(field);) {
    if (field.number == 3 && field.value != 1) {
      const char* kind = field.value == 2 ? "BPE" : field.value == 3 ? "word" : field.value == 4 ? "char" : "unknown";
      throw DataError(concat(where, ": a SentencePiece model of kind ", kind),
                      "Unigram models (T5, mT5, UMT5) are supported.");
    }
    if (field.number == 24) spec.whitespace_is_suffix = field.value != 0;
    if (field.number == 35) spec.byte_fallback = field.value != 0;
    if (field.number == 44) spec.unk_surface = field.bytes;
  }
}

void parse_normalizer(std::string_view bytes, std::string_view where, SentencePieceSpec& spec) {
  Message message(bytes, where);
  for (Message::Field field{}; message.next(field);) {
    if (field.number == 2) spec.charsmap = field.bytes;
    if (field.number == 3) spec.add_dummy_prefix = field.value != 0;
    if (field.number == 4) spec.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) spec.escape_whitespaces = field.value != 0;
  }
}

}  // namespace

SentencePieceSpec SentencePieceSpec::parse(std::string_view bytes, std::string_view where) {
  SentencePieceSpec spec;
  bool has_normalizer = false;
  Message message(bytes, where);
  for (Message::Field field{}; message.next(field);) {
    if (field.number == 1) {
      if (spec.pieces.size() == kMaxPieces) throw DataError(concat(where, ": more than ", kMaxPieces, " pieces"));
      spec.pieces.push_back(parse_piece(field.bytes, where));
      if (spec.pieces.back().kind == PieceKind::kUnknown) {
        if (spec.unk_id >= 0) throw DataError(concat(where, ": two unknown pieces"), "fetch the tokenizer again.");
        spec.unk_id = static_cast<int64_t>(spec.pieces.size()) - 1;
      }
    }
    if (field.number == 2) parse_trainer(field.bytes, where, spec);
    if (field.number == 3) parse_normalizer(field.bytes, where, spec);
    has_normalizer = has_normalizer || field.number == 3;
  }
  if (spec.pieces.empty()) {
    throw DataError(concat(where, ": not a SentencePiece model: it has no pieces"), "fetch the tokenizer again.");
  }
  if (spec.unk_id < 0) throw DataError(concat(where, ": no unknown piece"), "fetch the tokenizer again.");
  // It stands behind the pieces: a file that was cut between two of them would pass for a smaller vocabulary.
  if (!has_normalizer) {
    throw DataError(concat(where, ": no rules of normalization, so it was cut short"), "fetch the tokenizer again.");
  }
  return spec;
}

SentencePieceSpec SentencePieceSpec::read(const std::filesystem::path& file) {
  return parse(read_file(file, kMaxModelBytes), concat("'", file.string(), "'"));
}

SentencePiece::SentencePiece(SentencePieceSpec spec, std::string_view where)
    : spec_(std::move(spec)),
      charsmap_(spec_.charsmap, where),
      unigram_(std::move(spec_.pieces), spec_.unk_id, UnigramRules::kSentencePiece, where) {
  spec_.pieces.clear();
  std::vector<std::string> user_defined;
  for (int64_t id = 0; id < unigram_.size(); ++id) {
    if (unigram_.piece(id).kind == PieceKind::kUserDefined) user_defined.push_back(unigram_.piece(id).text);
  }
  user_defined_ = PrefixFinder(std::move(user_defined));
  if (spec_.byte_fallback && std::count(unigram_.byte_ids().begin(), unigram_.byte_ids().end(), -1) > 0) {
    throw DataError(concat(where, ": byte fallback without all 256 byte pieces"), "fetch the tokenizer again.");
  }
}

SentencePiece SentencePiece::load(const std::filesystem::path& file) {
  return SentencePiece(SentencePieceSpec::read(file), concat("'", file.string(), "'"));
}

CharsMap::Rule SentencePiece::prefix(std::string_view text) const {
  if (const auto symbol = user_defined_.longest(text)) {
    const size_t size = user_defined_.size_of(*symbol);
    return {size, text.substr(0, size)};
  }
  if (const auto rule = charsmap_.longest(text)) return *rule;
  const size_t length = std::min(utf8_length(text[0]), text.size());
  return {length, text.substr(0, length)};
}

std::string SentencePiece::normalize(std::string_view text) const {
  check_text(text, "text");
  const std::string_view space = spec_.escape_whitespaces ? kSpaceSymbol : std::string_view(" ");
  const bool squeeze = spec_.remove_extra_whitespaces;
  while (squeeze && !text.empty()) {
    const auto rule = prefix(text);
    if (rule.replacement != " ") break;
    text.remove_prefix(rule.length);
  }
  if (text.empty()) return {};

  std::string out;
  if (spec_.add_dummy_prefix && !spec_.whitespace_is_suffix) out += space;
  bool after_space = squeeze;
  while (!text.empty()) {
    const auto rule = prefix(text);
    std::string_view part = rule.replacement;
    while (after_space && !part.empty() && part.front() == ' ') part.remove_prefix(1);
    for (const char c : part) {
      if (c == ' ') {
        out += space;
      } else {
        out += c;
      }
    }
    if (!part.empty()) after_space = part.back() == ' ';
    after_space = after_space && squeeze;
    text.remove_prefix(rule.length);
  }
  while (squeeze && out.size() >= space.size() && out.compare(out.size() - space.size(), space.size(), space) == 0) {
    out.resize(out.size() - space.size());
  }
  if (spec_.add_dummy_prefix && spec_.whitespace_is_suffix) out += space;
  return out;
}

std::vector<int64_t> SentencePiece::encode(std::string_view text) const {
  const std::string normalized = normalize(text);
  std::vector<int64_t> ids;
  bool after_unknown = false;
  for (const auto& cut : unigram_.best_cut(normalized)) {
    const bool unknown = cut.id == unigram_.unk_id();
    if (unknown && spec_.byte_fallback) {
      for (size_t i = cut.begin; i < cut.end; ++i) {
        ids.push_back(unigram_.byte_ids()[static_cast<unsigned char>(normalized[i])]);
      }
    } else if (!unknown || !after_unknown) {
      ids.push_back(cut.id);  // a run of unknown characters is one id
    }
    after_unknown = unknown;
  }
  return ids;
}

std::string SentencePiece::decode(const std::vector<int64_t>& ids) const {
  const bool strip_start = spec_.add_dummy_prefix || spec_.remove_extra_whitespaces;
  std::string out;
  std::string bytes;     // of a run of byte pieces
  bool at_start = true;  // a leading space symbol here is the dummy prefix
  bool saw_prefix = false;
  const auto flush = [&] {
    // Bytes that make no character become U+FFFD, one each.
    for (size_t at = 0; at < bytes.size();) append_utf8(out, next_code_point(bytes, at));
    bytes.clear();
  };
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= unigram_.size()) {
      throw UsageError(concat("token id ", ids[i], " is not in the vocabulary of ", unigram_.size()));
    }
    const Piece& piece = unigram_.piece(ids[i]);
    if (piece.kind == PieceKind::kByte) {
      const auto& table = unigram_.byte_ids();
      bytes += static_cast<char>(std::find(table.begin(), table.end(), ids[i]) - table.begin());
      continue;
    }
    flush();
    if (saw_prefix || !out.empty()) at_start = false;
    saw_prefix = false;
    if (piece.kind == PieceKind::kControl) continue;
    if (piece.kind == PieceKind::kUnknown) {
      out += spec_.unk_surface;
      continue;
    }
    std::string_view text = piece.text;
    const bool strips = spec_.whitespace_is_suffix ? i + 1 == ids.size() : at_start;
    if (strips && strip_start) {
      if (spec_.whitespace_is_suffix && text.ends_with(kSpaceSymbol)) {
        text.remove_suffix(kSpaceSymbol.size());
      } else if (!spec_.whitespace_is_suffix && text.starts_with(kSpaceSymbol)) {
        text.remove_prefix(kSpaceSymbol.size());
        saw_prefix = !spec_.remove_extra_whitespaces;  // else every leading space goes
      }
    }
    out += replace_all(std::string(text), kSpaceSymbol, " ");
  }
  flush();
  return out;
}

}  // namespace kinora::text
