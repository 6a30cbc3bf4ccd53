// UTF-8, strictly (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace kinora {

/// Offset of the first byte that is not part of well-formed UTF-8; empty when the text is fine.
std::optional<size_t> find_invalid_utf8(std::string_view text);
inline bool is_utf8(std::string_view text) { return !find_invalid_utf8(text); }

/// The code point at `position` of well-formed UTF-8; moves `position` behind it. Ill-formed bytes give U+FFFD and move
/// by one, so a loop over any bytes ends. Requires position < text.size().
char32_t next_code_point(std::string_view text, size_t& position);

/// All code points. Throws DataError naming the offset when the text is ill-formed.
std::u32string decode_utf8(std::string_view text);

/// Appends one code point; a value that is none (a surrogate, above U+10FFFF) is written as U+FFFD.
void append_utf8(std::string& out, char32_t code_point);
std::string encode_utf8(std::u32string_view text);

/// Foreign text made fit for a message: cut to `max_bytes` at a character's end, and control characters and ill-formed
/// bytes replaced by '?'.
std::string printable(std::string_view text, size_t max_bytes = 80);

}  // namespace kinora
