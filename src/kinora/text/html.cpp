#include "kinora/text/html.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>

#include "kinora/text/html_entities.h"
#include "kinora/text/html_references.h"
#include "kinora/text/mojibake_tables.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

using Entities = std::unordered_map<std::string_view, Entity>;

Entities parse_entities() {
  Entities out;
  std::string_view rest = kHtmlEntities;
  while (!rest.empty()) {
    const size_t end = rest.find(' ');
    const std::string_view item = rest.substr(0, end);
    const size_t mark = item.find_first_of("!=");
    Entity entity;
    entity.without_semicolon = item[mark] == '!';
    char32_t code = 0;
    for (const char c : item.substr(mark + 1)) {
      if (c == '+') {
        append_utf8(entity.text, code);
        code = 0;
      } else {
        code = code * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : c - 'A' + 10);
      }
    }
    append_utf8(entity.text, code);
    out.emplace(item.substr(0, mark), std::move(entity));
    rest.remove_prefix(end + 1);
  }
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_alnum(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// The reference at the start of `text` (after its '&'), as html.unescape sees one; 0 when there is none.
size_t reference_length(std::string_view text) {
  if (text.starts_with('#')) {
    const bool hex = text.size() > 1 && (text[1] == 'x' || text[1] == 'X');
    const size_t first = hex ? 2 : 1;
    size_t end = first;
    while (end < text.size() && (hex ? is_hex(text[end]) : is_digit(text[end]))) ++end;
    if (end == first) return 0;
    return end < text.size() && text[end] == ';' ? end + 1 : end;
  }
  size_t end = 0;
  for (int count = 0; count < 32 && end < text.size(); ++count) {
    if (std::string_view("\t\n\f <&#;").find(text[end]) != std::string_view::npos) break;
    end += utf8_length(text[end]);
  }
  if (end == 0) return 0;
  return end < text.size() && text[end] == ';' ? end + 1 : end;
}

// The replacement of a named reference with or without its ";".
std::string named(std::string_view name) {
  const bool closed = name.ends_with(';');
  const Entity* whole = find_entity(closed ? name.substr(0, name.size() - 1) : name);
  if (whole != nullptr && (closed || whole->without_semicolon)) return whole->text;
  for (size_t size = name.size() - 1; size >= 2; --size) {
    const Entity* start = find_entity(name.substr(0, size));
    if (start != nullptr && start->without_semicolon) return start->text + std::string(name.substr(size));
  }
  return "&" + std::string(name);
}

}  // namespace

const Entity* find_entity(std::string_view name) {
  static const Entities entities = parse_entities();
  const auto found = entities.find(name);
  return found == entities.end() ? nullptr : &found->second;
}

uint32_t reference_number(std::string_view digits) {
  const bool hex = !digits.empty() && (digits[0] == 'x' || digits[0] == 'X');
  uint32_t value = 0;
  for (const char c : digits.substr(hex ? 1 : 0)) {
    if (!is_hex(c)) break;
    const int digit = is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
    value = std::min<uint32_t>(value * (hex ? 16 : 10) + static_cast<uint32_t>(digit), 0x110000);
  }
  return value;
}

char32_t windows_character(uint32_t number) {
  if (number < 0x80 || number > 0x9F) return number;
  return mojibake::kCodePages[1].high[number - 0x80];
}

std::string html_unescape(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t length = text[at] == '&' ? reference_length(text.substr(at + 1)) : 0;
    if (length == 0) {
      out += text[at++];
      continue;
    }
    const std::string_view name = text.substr(at + 1, length);
    at += 1 + length;
    if (name[0] != '#') {
      out += named(name);
      continue;
    }
    const uint32_t number = reference_number(name.substr(1));
    const bool is_control =
        (number >= 1 && number <= 8) || number == 0xB || (number >= 0xE && number <= 0x1F) || number == 0x7F;
    const bool is_noncharacter =
        (number >= 0xFDD0 && number <= 0xFDEF) || (number <= 0x10FFFF && (number & 0xFFFE) == 0xFFFE);
    if (is_control || is_noncharacter) continue;
    append_utf8(out, number == 0 ? 0xFFFD : windows_character(number));
  }
  return out;
}

std::string html_unescape_strict(std::string_view text) {
  constexpr size_t kLongest = 24;
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    const bool numeric = end < text.size() && text[end] == '#';
    if (numeric) ++end;
    const size_t first = end;
    while (end < text.size() && end - first < kLongest && is_alnum(text[end])) ++end;
    if (text[at] != '&' || end == first || end >= text.size() || text[end] != ';') {
      out += text[at++];
      continue;
    }
    const std::string whole(text.substr(at, end + 1 - at));
    const std::string name(text.substr(first, end - first));
    at = end + 1;
    if (numeric) {
      const std::string plain = html_unescape(whole);
      out += plain.find(';') == std::string::npos ? plain : whole;
    } else if (const Entity* entity = find_entity(name)) {
      out += entity->text;
    } else {
      const std::string lower = to_lower(name);
      const Entity* folded = to_upper(name) == name ? find_entity(lower) : nullptr;
      out += folded != nullptr && html_unescape(whole) == whole ? to_upper(folded->text) : whole;
    }
  }
  return out;
}

}  // namespace kinora::text
