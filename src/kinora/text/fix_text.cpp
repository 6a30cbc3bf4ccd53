#include "kinora/text/fix_text.h"

#include <utility>

#include "kinora/text/html.h"
#include "kinora/text/html_references.h"
#include "kinora/text/mojibake.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

// Ligatures and digraphs of Latin letters; those that are letters of their own (ae, oe) stay.
std::u32string_view unligated(char32_t c) {
  static constexpr std::pair<char32_t, std::u32string_view> kTable[] = {
      {0x132, U"IJ"},      {0x133, U"ij"},      {0x149, U"\u02BCn"},  {0x1F1, U"DZ"},  {0x1F2, U"Dz"},  {0x1F3, U"dz"},
      {0x1C4, U"D\u017D"}, {0x1C5, U"D\u017E"}, {0x1C6, U"d\u017E"},  {0x1C7, U"LJ"},  {0x1C8, U"Lj"},  {0x1C9, U"lj"},
      {0x1CA, U"NJ"},      {0x1CB, U"Nj"},      {0x1CC, U"nj"},       {0xFB00, U"ff"}, {0xFB01, U"fi"}, {0xFB02, U"fl"},
      {0xFB03, U"ffi"},    {0xFB04, U"ffl"},    {0xFB05, U"\u017Ft"}, {0xFB06, U"st"},
  };
  for (const auto& [ligature, letters] : kTable) {
    if (ligature == c) return letters;
  }
  return {};
}

bool is_removed_control(char32_t c) {
  return c <= 0x8 || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF ||
         (c >= 0xFFF9 && c <= 0xFFFC);
}

// The steps that look at one character at a time. Ligatures come before widths and quotes, as in the reference: the
// letters of one may be what a later step replaces.
std::u32string fix_characters(std::u32string_view text) {
  std::u32string out;
  const auto put = [&](char32_t c) {
    if (c == 0x3000) c = ' ';
    if (c >= 0x201C && c <= 0x201F) c = '"';
    if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) c = '\'';
    out += c;
  };
  for (char32_t c : text) {
    if (c >= 0x80 && c <= 0x9F) c = windows_character(c);
    if (const auto letters = unligated(c); !letters.empty()) {
      for (const char32_t letter : letters) put(letter);
    } else if (c > 0xFF00 && c < 0xFFF0) {
      std::string one;
      append_utf8(one, c);
      for (const char32_t wide : decode_utf8(normalize(one, NormalForm::kNfkc))) put(wide);
    } else {
      put(c);
    }
  }
  return out;
}

std::u32string fix_line_breaks(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    out += c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85 ? U'\n' : c;
  }
  return out;
}

// ESC "[" numbers letter: colours of a terminal.
std::u32string remove_terminal_escapes(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == 0x1B && i + 1 < text.size() && text[i + 1] == '[') {
      size_t end = i + 2;
      while (end < text.size() && ((text[end] >= '0' && text[end] <= '9') || text[end] == ';')) ++end;
      const char32_t c = end < text.size() ? text[end] : 0;
      if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        i = end;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

std::string fix_segment(std::string text, bool unescape) {
  while (true) {
    std::string fixed = unescape ? html_unescape_strict(text) : text;
    std::u32string wide = fix_encoding(decode_utf8(fixed));
    wide = remove_terminal_escapes(fix_line_breaks(fix_characters(wide)));
    std::erase_if(wide, is_removed_control);
    fixed = normalize(encode_utf8(wide), NormalForm::kNfc);
    if (fixed == text) return fixed;
    text = std::move(fixed);
  }
}

}  // namespace

std::string fix_text(std::string_view text) {
  std::string out;
  bool unescape = true;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view line = text.substr(0, end);
    unescape = unescape && line.find('<') == std::string_view::npos;  // from a line with markup on, references stay
    out += fix_segment(std::string(line), unescape);
    text.remove_prefix(end);
  }
  return out;
}

}  // namespace kinora::text
