// Unicode as the text room needs it, above base/utf8.h: the character classes of the reference implementations, and ICU
// behind small functions for what needs the Unicode tables (normal forms, lower case, grapheme clusters).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/base/utf8.h"

namespace kinora::text {

/// Longest text, in bytes, that any function of this room takes (64 KiB).
inline constexpr size_t kMaxTextBytes = 64 * 1024;

/// Throws UsageError naming `what` ("prompt") when the text is longer than kMaxTextBytes or not UTF-8.
void check_text(std::string_view text, std::string_view what);

/// Bytes of the character whose first byte is `lead`; 1 for a byte that cannot start one.
size_t utf8_length(char lead);

/// Code point of the well formed character at the start of `text`, which must not be empty.
char32_t first_code_point(std::string_view text);

/// Nothing that shows: only white space and characters without a shape, such as U+200B.
bool is_blank(std::string_view text);
/// The property White_Space.
bool is_white_space(char32_t c);
/// What Python's str.isspace and `\s` take: White_Space and U+001C .. U+001F.
bool is_python_space(char32_t c);
/// What Python's `\w` takes: letters, numbers and the underscore.
bool is_word(char32_t c);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normalize(std::string_view text, NormalForm form);
/// Full case mappings, independent of any language.
std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);

/// End offsets, in bytes and ascending, of the extended grapheme clusters of `text`.
std::vector<size_t> grapheme_ends(std::string_view text);

/// `text` without Python white space at both ends.
std::string_view strip(std::string_view text);
/// Every occurrence of `from` (not empty) replaced.
std::string replace_all(std::string text, std::string_view from, std::string_view to);

}  // namespace kinora::text
