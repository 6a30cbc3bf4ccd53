// Character references one by one, shared by the functions of html.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kinora::text {

struct Entity {
  std::string text;
  bool without_semicolon = false;
};
/// A named reference by its name, without '&' and ';'; nullptr when the standard has none.
const Entity* find_entity(std::string_view name);

/// Value of "39" or "x27", capped just above U+10FFFF.
uint32_t reference_number(std::string_view digits);

/// C1 controls as the characters of Windows-1252 that they are meant to be; other numbers as they are.
char32_t windows_character(uint32_t number);

}  // namespace kinora::text
