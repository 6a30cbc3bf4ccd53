#include "kinora/base/utf8.h"

#include <cstdint>

#include "kinora/base/error.h"

namespace kinora {
namespace {

// Length of the well-formed sequence at `p` and its value, or length 0.
struct Sequence {
  size_t length;
  char32_t value;
};

Sequence read_sequence(const unsigned char* p, size_t left) {
  const unsigned char first = p[0];
  if (first < 0x80) return {1, first};
  size_t length = 0;
  char32_t value = 0;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
    value = first & 0x1F;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    value = first & 0x0F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    value = first & 0x07;
  } else {
    return {0, 0};
  }
  if (left < length) return {0, 0};
  for (size_t i = 1; i < length; ++i) {
    if ((p[i] & 0xC0) != 0x80) return {0, 0};
    value = (value << 6) | (p[i] & 0x3F);
  }
  const bool is_overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  const bool is_surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (is_overlong || is_surrogate || value > 0x10FFFF) return {0, 0};
  return {length, value};
}

Sequence sequence_at(std::string_view text, size_t position) {
  return read_sequence(reinterpret_cast<const unsigned char*>(text.data()) + position, text.size() - position);
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t position = 0; position < text.size();) {
    const Sequence sequence = sequence_at(text, position);
    if (sequence.length == 0) return position;
    position += sequence.length;
  }
  return std::nullopt;
}

char32_t next_code_point(std::string_view text, size_t& position) {
  KINORA_ASSERT(position < text.size());
  const Sequence sequence = sequence_at(text, position);
  if (sequence.length == 0) {
    ++position;
    return 0xFFFD;
  }
  position += sequence.length;
  return sequence.value;
}

std::u32string decode_utf8(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const Sequence sequence = sequence_at(text, position);
    if (sequence.length == 0) throw DataError(concat("text is not valid UTF-8 at byte ", position));
    out.push_back(sequence.value);
    position += sequence.length;
  }
  return out;
}

void append_utf8(std::string& out, char32_t c) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
  const auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | ((c >> shift) & 0x3F))); };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (c >> 6)));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (c >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | (c >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string encode_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t position = 0; position < text.size();) {
    const Sequence sequence = sequence_at(text, position);
    const size_t length = sequence.length == 0 ? 1 : sequence.length;
    if (position + length > max_bytes) return out + "...";
    const bool is_control = sequence.value < 0x20 || (sequence.value >= 0x7F && sequence.value < 0xA0);
    if (sequence.length == 0 || is_control) {
      out.push_back('?');
    } else {
      out.append(text.substr(position, length));
    }
    position += length;
  }
  return out;
}

}  // namespace kinora
