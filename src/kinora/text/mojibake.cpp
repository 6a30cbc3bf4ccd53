#include "kinora/text/mojibake.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "kinora/text/mojibake_tables.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

using mojibake::CodePage;
using mojibake::kCodePages;

bool in_pairs(std::u16string_view pairs, char32_t c) {
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    if (c >= pairs[i] && c <= pairs[i + 1]) return true;
  }
  return false;
}

std::optional<unsigned char> byte_of(const CodePage& page, char32_t c) {
  if (page.sloppy && c == 0xFFFD) return static_cast<unsigned char>(0x1A);
  if (c < 0x80) return page.sloppy && c == 0x1A ? std::nullopt : std::optional(static_cast<unsigned char>(c));
  const size_t at = c > 0xFFFF ? std::u16string_view::npos : page.high.find(static_cast<char16_t>(c));
  if (at == std::u16string_view::npos) return std::nullopt;
  return static_cast<unsigned char>(0x80 + at);
}

std::optional<std::string> encode(const CodePage& page, std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) {
    const auto byte = byte_of(page, c);
    if (!byte) return std::nullopt;
    out += static_cast<char>(*byte);
  }
  return out;
}

// A pattern over bytes: ranges, one set of [low, high] pairs a byte.
using ByteSet = std::string_view;
bool in_bytes(ByteSet pairs, char c) {
  const auto byte = static_cast<unsigned char>(c);
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    if (byte >= static_cast<unsigned char>(pairs[i]) && byte <= static_cast<unsigned char>(pairs[i + 1])) return true;
  }
  return false;
}
bool match_bytes(std::string_view text, size_t at, const std::vector<ByteSet>& pattern) {
  if (text.size() - at < pattern.size()) return false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (!in_bytes(pattern[i], text[at + i])) return false;
  }
  return true;
}
size_t match_any(std::string_view text, size_t at, const std::vector<std::vector<ByteSet>>& patterns) {
  for (const auto& pattern : patterns) {
    if (match_bytes(text, at, pattern)) return pattern.size();
  }
  return 0;
}

// UTF-8 whose byte A0 (a no-break space when read alone) was turned into a plain space. Only leads that give likely
// characters are listed.
const std::vector<std::vector<ByteSet>>& spaced_sequences() {
  static constexpr ByteSet kSpace("\x20\x20", 2);
  static constexpr ByteSet kTail("\x80\xBF", 2);
  static constexpr ByteSet kNarrowTail("\x80\x84\x86\x9F\xA1\xBF", 6);
  static constexpr ByteSet kFour("\xF0\xF0", 2);
  static const std::vector<std::vector<ByteSet>> patterns = {
      {ByteSet("\xC2\xC3\xC5\xC5\xCE\xCE\xD0\xD0\xD9\xD9", 10), kSpace},
      {ByteSet("\xE2\xE3", 2), kSpace, kNarrowTail},
      {ByteSet("\xE0\xE3", 2), kNarrowTail, kSpace},
      {kFour, kSpace, kTail, kTail},
      {kFour, kTail, kSpace, kTail},
      {kFour, kTail, kTail, kSpace},
  };
  return patterns;
}

// UTF-8 with bytes lost to U+FFFD (1A here) or "?".
const std::vector<std::vector<ByteSet>>& lossy_sequences() {
  static constexpr ByteSet kLost("\x1A\x1A??", 4);
  static constexpr ByteSet kMaybe("\x1A\x1A\x80\xBF", 4);
  static constexpr ByteSet kEither("\x1A\x1A??\x80\xBF", 6);
  static constexpr ByteSet kEd("\xED\xED", 2);
  static constexpr ByteSet kHigh("\xA0\xAF", 2);
  static constexpr ByteSet kLow("\xB0\xBF", 2);
  static constexpr ByteSet kThree("\xE0\xEF", 2);
  static constexpr ByteSet kFour("\xF0\xF4", 2);
  static const std::vector<std::vector<ByteSet>> patterns = {
      {ByteSet("\xC2\xDF", 2), ByteSet("\x1A\x1A", 2)},
      {ByteSet("\xC2\xC3", 2), ByteSet("??", 2)},
      {kEd, kHigh, kLost, kEd, kLow, kEither},
      {kEd, kHigh, kEither, kEd, kLow, kLost},
      {kThree, kLost, kMaybe},
      {kThree, kMaybe, kLost},
      {kFour, kLost, kMaybe, kMaybe},
      {kFour, kMaybe, kLost, kMaybe},
      {kFour, kMaybe, kMaybe, kLost},
      {ByteSet("\x1A\x1A", 2)},
  };
  return patterns;
}

std::string restore_no_break_spaces(const std::string& bytes) {
  // "a" with grave that stands as a word keeps its space, except in the Portuguese words that it begins.
  std::string words;
  for (size_t at = 0; at < bytes.size(); ++at) {
    words += bytes[at];
    if (bytes.compare(at, 2, "\xC3 ") != 0) continue;
    const std::string_view rest = std::string_view(bytes).substr(at + 2);
    const bool joined = rest.starts_with(" ") || rest.starts_with("quele") || rest.starts_with("quela") ||
                        rest.starts_with("quilo") || rest.starts_with("s ");
    if (!joined) words += '\xA0';
  }
  std::string out;
  for (size_t at = 0; at < words.size();) {
    const size_t length = match_any(words, at, spaced_sequences());
    for (size_t i = 0; i < std::max<size_t>(length, 1); ++i, ++at)
      out += length > 0 && words[at] == ' ' ? '\xA0' : words[at];
  }
  return out;
}

std::string replace_lossy(const std::string& bytes) {
  std::string out;
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = match_any(bytes, at, lossy_sequences());
    if (length == 0) {
      out += bytes[at++];
    } else {
      out += "\xEF\xBF\xBD";
      at += length;
    }
  }
  return out;
}

// Strict UTF-8, and its variants CESU-8 (surrogate pairs of six bytes) and Java's two-byte NUL.
std::optional<std::u32string> decode_utf8_variants(const std::string& bytes) {
  static constexpr ByteSet kEd("\xED\xED", 2);
  static constexpr ByteSet kTail("\x80\xBF", 2);
  static const std::vector<ByteSet> pair = {kEd, ByteSet("\xA0\xAF", 2), kTail, kEd, ByteSet("\xB0\xBF", 2), kTail};
  std::string plain;
  for (size_t at = 0; at < bytes.size();) {
    const auto bits = [&](size_t i, unsigned mask) {
      return static_cast<char32_t>(static_cast<unsigned char>(bytes[at + i]) & mask);
    };
    if (bytes.compare(at, 2, "\xC0\x80") == 0) {
      plain += '\0';
      at += 2;
    } else if (match_bytes(bytes, at, pair)) {
      append_utf8(plain, 0x10000 + (bits(1, 0xF) << 16) + (bits(2, 0x3F) << 10) + (bits(4, 0xF) << 6) + bits(5, 0x3F));
      at += 6;
    } else {
      plain += bytes[at++];
    }
  }
  if (!is_utf8(plain)) return std::nullopt;
  return decode_utf8(plain);
}

std::optional<std::u32string> fix_with(const CodePage& page, std::string bytes) {
  bool has_spaced = false;
  for (size_t at = 0; at < bytes.size() && !has_spaced; ++at) has_spaced = match_any(bytes, at, spaced_sequences()) > 0;
  if (has_spaced && !page.macintosh) bytes = restore_no_break_spaces(bytes);
  if (page.sloppy) bytes = replace_lossy(bytes);
  return decode_utf8_variants(bytes);
}

// Fixes sequences that look like UTF-8 read in some one-byte encoding, each by itself.
std::u32string fix_embedded(const std::u32string& text) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    const bool may_start = at == 0 || !in_pairs(mojibake::kUtf8ContinuationStrict, text[at - 1]);
    while (may_start && end < text.size()) {
      const size_t tails = in_pairs(mojibake::kUtf8FirstOf2, text[end])   ? 1
                           : in_pairs(mojibake::kUtf8FirstOf3, text[end]) ? 2
                           : in_pairs(mojibake::kUtf8FirstOf4, text[end]) ? 3
                                                                          : 0;
      if (tails == 0 || text.size() - end <= tails) break;
      const auto first = text.begin() + static_cast<std::ptrdiff_t>(end) + 1;
      const bool all = std::all_of(first, first + static_cast<std::ptrdiff_t>(tails),
                                   [](char32_t c) { return in_pairs(mojibake::kUtf8Continuation, c); });
      if (!all) break;
      end += tails + 1;
    }
    if (end == at) {
      out += text[at++];
      continue;
    }
    std::u32string part = text.substr(at, end - at);
    // A match of the whole text would recurse for ever.
    out += part.size() < text.size() && looks_like_mojibake(part) ? fix_encoding(std::move(part)) : part;
    at = end;
  }
  return out;
}

std::u32string fix_once(const std::u32string& text) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x80; });
  if (ascii || !looks_like_mojibake(text)) return text;
  for (const CodePage& page : kCodePages) {
    auto bytes = encode(page, text);
    if (!bytes) continue;
    if (auto fixed = fix_with(page, std::move(*bytes))) return *fixed;
  }
  if (auto fixed = fix_embedded(text); fixed != text) return fixed;
  // C1 controls have no use of their own: they are Windows-1252 read as ISO 8859-1.
  std::u32string windows = text;
  for (char32_t& c : windows) {
    if (c >= 0x80 && c <= 0x9F) c = kCodePages[1].high[c - 0x80];
  }
  return windows;
}

}  // namespace

std::u32string fix_encoding(std::u32string text) {
  while (true) {
    std::u32string fixed = fix_once(text);
    if (fixed == text) return text;
    text = std::move(fixed);
  }
}

}  // namespace kinora::text
