// The rules that tell mojibake from meant text: neighbours of classes that hardly ever meet in real writing.
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kinora/text/mojibake.h"
#include "kinora/text/mojibake_tables.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

enum Kind : uint32_t {
  kCo = 1U << 0,   // common
  kC1 = 1U << 1,   // control characters 80 .. 9F
  kBa = 1U << 2,   // bad
  kLa = 1U << 3,   // law
  kCu = 1U << 4,   // currency
  kSt = 1U << 5,   // start punctuation
  kEn = 1U << 6,   // end punctuation
  kNu = 1U << 7,   // numeric
  kKa = 1U << 8,   // kaomoji
  kUA = 1U << 9,   // upper accented
  kLA = 1U << 10,  // lower accented
  kUC = 1U << 11,  // upper common
  kLC = 1U << 12,  // lower common
  kBo = 1U << 13,  // box
  kSpace = 1U << 14,
  kWord = 1U << 15,
  kaz = 1U << 16,
  kAz = 1U << 17,        // ASCII letter
  kNotAz = 1U << 18,     // anything but an ASCII letter
  kNotBreak = 1U << 19,  // anything but a line feed
};

// One place of a rule: a class, or one of the listed characters.
struct Place {
  uint32_t kinds;
  std::u32string_view also{};
};
using Rule = std::vector<Place>;

const std::vector<Rule>& rules() {
  static const std::u32string_view kAHat = U"\u00C3\u00C2";
  static const std::u32string_view kWindowsMore = U"\u0178\u0160\u00AE\u00B0\u00B5\u00BB";
  static const std::vector<Rule> all = {
      {{kC1}},
      {{kBa | kLA | kUA | kBo | kSt | kEn | kCu | kNu | kLa}, {kBa}},
      {{kAz}, {kLC | kUC}, {kBa}},
      {{kBa}, {kLA | kUA | kBo | kSt | kEn | kCu | kNu | kLa}},
      {{kLA | kLC | kBo | kEn | kCu | kNu}, {kUA}},
      {{kBo | kEn | kCu | kNu}, {kLA}},
      {{kLA | kBo | kEn}, {kCu}},
      {{kSpace}, {kUA}, {kCu}},
      {{kUA | kBo}, {kNu | kLa}},
      {{kLA | kUA | kBo | kCu | kEn}, {kSt}, {kNu}},
      {{kLA | kUA | kCu | kNu | kBo | kLa}, {kEn}, {kSt}},
      {{kCu | kNu | kBo}, {kSt}},
      {{kaz}, {kUA}, {kSt | kCu}},
      {{kBo}, {kKa}},
      {{kLA | kUA | kCu | kNu | kSt | kEn | kLa}, {kBo}},
      {{kBo}, {kEn}},
      {{kLA | kUA}, {kSt | kEn}, {kWord}},
      {{0, U"\u0152\u0153"}, {kNotAz}},
      {{kUA}, {0, U"\u00B0"}},
      // two characters of Windows-1252
      {{0, U"\u00C2\u00C3\u00CE\u00D0"},
       {kSt | kEn,
        U"\u20AC\u0153\u0160\u0161\u00A2\u00A3\u0178\u017E\u00A0\u00AD\u00AE\u00A9\u00B0\u00B7\u00BB\u2013\u2014"
        U"\u00B4"}},
      {{0, U"\u00D7"}, {0, U"\u00B2\u00B3"}},
      // Arabic in Windows-1252
      {{0, U"\u00D8\u00D9"},
       {kCo | kCu | kBa | kNu | kSt, kWindowsMore},
       {0, U"\u00D8\u00D9"},
       {kCo | kCu | kBa | kNu | kSt, kWindowsMore}},
      // South Asian scripts in Windows-1252
      {{0, U"\u00E0"}, {0, U"\u00B2\u00B5\u00B9\u00BC\u00BD\u00BE"}},
      // MacRoman
      {{0, U"\u221A"}, {0, U"\u00B1\u2202\u2020\u2260\u00AE\u2122\u00B4\u2264\u2265\u00A5\u00B5\u00F8"}},
      {{0, U"\u2248"}, {0, U"\u00B0\u00A2"}},
      {{0, U"\u201A"},
       {0, U"\u00C4"},
       {0, U"\u00EC\u00EE\u00EF\u00F2\u00F4\u00FA\u00F9\u00FB\u2020\u00B0\u00A2\u03C0"}},
      {{0, U"\u201A"}, {0, U"\u00E2\u00F3"}, {0, U"\u00E0\u00E4\u00B0\u00EA"}},
      // Windows-1251
      {{0, U"\u0432"}, {0, U"\u0402"}},
      {{0, U"\u0412\u0413\u0420\u0421"},
       {kC1 | kBa | kSt | kEn | kCu, U"\u00B0\u00B5"},
       {0, U"\u0412\u0413\u0420\u0421"}},
      {{0, U"\u0413"}, {0, U"\u045E"}, {0, U"\u0412"}, {0, U"\u0402"}, {0, U"\u0412"}, {kNotBreak}, {kAz, U" "}},
      // a with grave or acute, and the no-break space, in Windows-1252
      {{0, U"\u00C3"}, {0, U"\u00A0\u00A1"}},
      {{kaz}, {0, kAHat}, {0, U" "}},
      {{kaz}, {kSpace}, {0, kAHat}, {0, U" "}},
      {{kaz | kEn, U".,?!"}, {0, U"\u00C2"}, {kSt | kEn, U" "}},
      // Windows-1253
      {{0, U"\u03B2"}, {0, U"\u20AC"}, {0, U"\u2122\u00A0\u0386\u00AD\u00AE\u00B0"}},
      {{0, U"\u0392\u0393\u039E\u039F"}, {kC1 | kBa | kSt | kEn | kCu, U"\u00B0"}, {0, U"\u0392\u0393\u039E\u039F"}},
      // Windows-1257
      {{0, U"\u0101"}, {0, U"\u20AC"}},
  };
  return all;
}

uint32_t kinds_of(char32_t c) {
  static const std::unordered_map<char32_t, uint32_t> classes = [] {
    std::unordered_map<char32_t, uint32_t> out;
    const std::pair<std::u16string_view, uint32_t> tables[] = {
        {mojibake::kCommon, kCo},
        {mojibake::kC1, kC1},
        {mojibake::kBad, kBa},
        {mojibake::kLaw, kLa},
        {mojibake::kCurrency, kCu},
        {mojibake::kStartPunctuation, kSt},
        {mojibake::kEndPunctuation, kEn},
        {mojibake::kNumeric, kNu},
        {mojibake::kKaomoji, kKa},
        {mojibake::kUpperAccented, kUA},
        {mojibake::kLowerAccented, kLA},
        {mojibake::kUpperCommon, kUC},
        {mojibake::kLowerCommon, kLC},
        {mojibake::kBox, kBo},
    };
    for (const auto& [pairs, kind] : tables) {
      for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
        for (char32_t member = pairs[i]; member <= pairs[i + 1]; ++member) out[member] |= kind;
      }
    }
    return out;
  }();
  const auto found = classes.find(c);
  uint32_t kinds = found == classes.end() ? 0 : found->second;
  const bool lower = c >= 'a' && c <= 'z';
  const bool letter = lower || (c >= 'A' && c <= 'Z');
  kinds |= lower ? kaz : 0U;
  kinds |= letter ? kAz : kNotAz;
  kinds |= c != '\n' ? kNotBreak : 0U;
  kinds |= is_python_space(c) ? kSpace : 0U;
  kinds |= is_word(c) ? kWord : 0U;
  return kinds;
}

}  // namespace

bool looks_like_mojibake(std::u32string_view text) {
  std::vector<uint32_t> kinds;
  kinds.reserve(text.size());
  for (const char32_t c : text) kinds.push_back(kinds_of(c));
  const auto matches = [&](const Rule& rule, size_t at) {
    if (text.size() - at < rule.size()) return false;
    for (size_t i = 0; i < rule.size(); ++i) {
      const bool listed = rule[i].also.find(text[at + i]) != std::u32string_view::npos;
      if ((kinds[at + i] & rule[i].kinds) == 0 && !listed) return false;
    }
    return true;
  };
  // A or A with circumflex and a space may also begin the text.
  if (text.size() >= 2 && (text[0] == 0xC3 || text[0] == 0xC2) && text[1] == ' ') return true;
  for (size_t at = 0; at < text.size(); ++at) {
    for (const Rule& rule : rules()) {
      if (matches(rule, at)) return true;
    }
  }
  return false;
}

}  // namespace kinora::text
