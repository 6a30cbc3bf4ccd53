#include "kinora/base/utf8.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"

namespace kinora {
namespace {

TEST(Utf8, EveryCodePointSurvivesEncodingAndDecoding) {
  for (char32_t c = 1; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    size_t position = 0;
    ASSERT_FALSE(find_invalid_utf8(text)) << static_cast<uint32_t>(c);
    ASSERT_EQ(next_code_point(text, position), c);
    ASSERT_EQ(position, text.size());
  }
}

TEST(Utf8, IllFormedBytesAreFoundAtTheirOffset) {
  const std::pair<std::string, size_t> cases[] = {{"\x80", 0},              // continuation alone
                                                  {"a\xC3", 1},             // cut
                                                  {"\xC0\xAF", 0},          // overlong, 2 bytes
                                                  {"\xE0\x80\xAF", 0},      // overlong, 3 bytes
                                                  {"\xF0\x80\x80\xAF", 0},  // overlong, 4 bytes
                                                  {"ab\xED\xA0\x80", 2},    // surrogate
                                                  {"\xF4\x90\x80\x80", 0},  // above U+10FFFF
                                                  {"\xF5\x80\x80\x80", 0},
                                                  {"\xFF", 0},
                                                  {"\xE2\x82 ", 0}};
  for (const auto& [text, offset] : cases) {
    EXPECT_EQ(find_invalid_utf8(text), offset) << printable(text);
    EXPECT_THROW(decode_utf8(text), DataError);
  }
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80"));
}

TEST(Utf8, DecodingThenEncodingGivesTheSameText) {
  const std::string text = "a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80";
  EXPECT_EQ(decode_utf8(text), U"a\u00FC\u20AC\U0001F600");
  EXPECT_EQ(encode_utf8(decode_utf8(text)), text);
  EXPECT_EQ(encode_utf8(std::u32string{0xD800, 0x110000}), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Utf8, WalkingIllFormedTextEnds) {
  const std::string text = "a\xFF\xE2\x82";
  size_t position = 0;
  std::u32string got;
  while (position < text.size()) got.push_back(next_code_point(text, position));
  EXPECT_EQ(got, U"a\uFFFD\uFFFD\uFFFD");
}

TEST(Utf8, ForeignTextIsMadePrintable) {
  EXPECT_EQ(printable("a\x1b[2J\n\xFF"
                      "b"),
            "a?[2J??b");
  EXPECT_EQ(printable(std::string(100, 'x'), 5), "xxxxx...");
  EXPECT_EQ(printable("abc\xC3\xBC", 4), "abc...");  // never half a character
  EXPECT_EQ(printable("abc\xC3\xBC", 5), "abc\xC3\xBC");
}

}  // namespace
}  // namespace kinora
