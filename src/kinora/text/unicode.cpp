#include "kinora/text/unicode.h"

#include <unicode/brkiter.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utext.h>

#include <cstdint>
#include <memory>

#include "kinora/base/error.h"

namespace kinora::text {
namespace {

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

icu::UnicodeString to_icu(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

std::string from_icu(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

void check_icu(UErrorCode status, const char* what) {
  if (U_FAILURE(status)) throw ResourceError(concat("ICU cannot ", what, ": ", u_errorName(status)), "install libicu.");
}

const icu::Normalizer2& normalizer(NormalForm form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* found = nullptr;
  switch (form) {
    case NormalForm::kNfc: found = icu::Normalizer2::getNFCInstance(status); break;
    case NormalForm::kNfd: found = icu::Normalizer2::getNFDInstance(status); break;
    case NormalForm::kNfkc: found = icu::Normalizer2::getNFKCInstance(status); break;
    case NormalForm::kNfkd: found = icu::Normalizer2::getNFKDInstance(status); break;
  }
  check_icu(status, "normalize text");
  return *found;
}

}  // namespace

void check_text(std::string_view text, std::string_view what) {
  if (text.size() > kMaxTextBytes) {
    throw UsageError(concat("the ", what, " is ", text.size(), " bytes long; at most ", kMaxTextBytes, " are taken"),
                     concat("shorten the ", what, "; models read only its first few hundred words."));
  }
  if (const auto at = find_invalid_utf8(text)) {
    throw UsageError(concat("the ", what, " is not valid UTF-8 at byte ", *at),
                     "convert it to UTF-8 first (iconv -t UTF-8).");
  }
}

bool is_blank(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (!is_python_space(c) && !u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_DEFAULT_IGNORABLE_CODE_POINT))
      return false;
  }
  return true;
}

size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0xC0) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

char32_t first_code_point(std::string_view text) {
  size_t position = 0;
  return next_code_point(text, position);
}

bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

bool is_word(char32_t c) {
  constexpr uint32_t kWord = U_GC_L_MASK | U_GC_N_MASK;
  return c == '_' || (U_MASK(u_charType(static_cast<UChar32>(c))) & kWord) != 0;
}

std::string normalize(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  UErrorCode status = U_ZERO_ERROR;
  const icu::UnicodeString out = normalizer(form).normalize(to_icu(text), status);
  check_icu(status, "normalize text");
  return from_icu(out);
}

std::string to_lower(std::string_view text) { return from_icu(to_icu(text).toLower(icu::Locale::getRoot())); }

std::string to_upper(std::string_view text) { return from_icu(to_icu(text).toUpper(icu::Locale::getRoot())); }

std::vector<size_t> grapheme_ends(std::string_view text) {
  std::vector<size_t> ends;
  if (is_ascii(text)) {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
      ends.push_back(i + 1);
    }
    return ends;
  }
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::BreakIterator> breaks(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
  check_icu(status, "find grapheme clusters");
  UText* view = utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &status);
  const std::unique_ptr<UText, UText* (*)(UText*)> closer(view, utext_close);
  breaks->setText(view, status);
  check_icu(status, "find grapheme clusters");
  breaks->first();
  for (int32_t end = breaks->next(); end != icu::BreakIterator::DONE; end = breaks->next()) {
    ends.push_back(static_cast<size_t>(end));
  }
  return ends;
}

std::string_view strip(std::string_view text) {
  while (!text.empty() && is_python_space(first_code_point(text))) text.remove_prefix(utf8_length(text[0]));
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!is_python_space(first_code_point(text.substr(start)))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t hit = text.find(from); hit != std::string::npos; hit = text.find(from, at)) {
    out.append(text, at, hit - at).append(to);
    at = hit + from.size();
  }
  return at == 0 ? text : out.append(text, at);
}

}  // namespace kinora::text
