// The tables behind mojibake.h.
#pragma once

#include <array>
#include <string_view>

namespace kinora::text::mojibake {

// Classes of characters that text in the wrong encoding is made of; pairs of first and last character.
extern const std::u16string_view kCommon, kC1, kBad, kLaw, kCurrency, kStartPunctuation, kEndPunctuation, kNumeric,
    kKaomoji, kUpperAccented, kLowerAccented, kUpperCommon, kLowerCommon, kBox;
// What the bytes of a UTF-8 sequence look like when each is read as a character.
extern const std::u16string_view kUtf8FirstOf2, kUtf8FirstOf3, kUtf8FirstOf4, kUtf8Continuation,
    kUtf8ContinuationStrict;

struct CodePage {
  bool sloppy;  // unassigned bytes stand for themselves, and byte 1A for U+FFFD
  bool macintosh;
  std::u16string_view high;  // characters of the bytes 0x80 .. 0xFF
};
extern const std::array<CodePage, 10> kCodePages;  // ISO 8859-1 first, Windows-1252 second

}  // namespace kinora::text::mojibake
