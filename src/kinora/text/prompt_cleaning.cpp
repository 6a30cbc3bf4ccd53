#include "kinora/text/prompt_cleaning.h"

#include <unicode/regex.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/text/fix_text.h"
#include "kinora/text/html.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

// Matching steps that one rule may take, about a millisecond each: a real prompt takes none.
constexpr int32_t kMatchLimit = 500;

struct Rule {
  std::unique_ptr<icu::RegexPattern> pattern;
  icu::UnicodeString replacement;
};

// `pattern` in ICU's syntax, where <w>, <s>, <S> and <b> stand for what Python's \w, \s, \S and \b match.
Rule rule(std::string pattern, std::string_view replacement) {
  const std::string space =
      R"(\t-\r\x{1C}-\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
  const std::string word = R"([\p{L}\p{N}_])";
  pattern = replace_all(std::move(pattern), "<w>", R"(\p{L}\p{N}_)");
  pattern = replace_all(std::move(pattern), "<s>", "[" + space + "]");
  pattern = replace_all(std::move(pattern), "<S>", "[^" + space + "]");
  pattern =
      replace_all(std::move(pattern), "<b>", "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))");
  UErrorCode status = U_ZERO_ERROR;
  UParseError where;
  Rule out;
  out.pattern.reset(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(pattern), UREGEX_UNIX_LINES, where, status));
  KINORA_ASSERT(U_SUCCESS(status));
  out.replacement =
      icu::UnicodeString::fromUTF8(icu::StringPiece(replacement.data(), static_cast<int32_t>(replacement.size())));
  return out;
}

std::string replace(const Rule& r, const std::string& text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::UnicodeString input = icu::UnicodeString::fromUTF8(text);
  const std::unique_ptr<icu::RegexMatcher> matcher(r.pattern->matcher(input, status));
  KINORA_ASSERT(U_SUCCESS(status));
  matcher->setTimeLimit(kMatchLimit, status);
  const icu::UnicodeString out = matcher->replaceAll(r.replacement, status);
  if (status == U_REGEX_TIME_OUT || status == U_REGEX_STACK_OVERFLOW) {
    throw UsageError("the prompt has a pattern that takes too long to clean",
                     "remove long runs without spaces, or turn prompt cleaning off.");
  }
  KINORA_ASSERT(U_SUCCESS(status));
  std::string utf8;
  out.toUTF8String(utf8);
  return utf8;
}

std::string apply_all(const std::vector<Rule>& rules, std::string text) {
  for (const Rule& r : rules) text = replace(r, text);
  return text;
}

std::vector<Rule> make_rules(std::initializer_list<std::pair<const char*, const char*>> list) {
  std::vector<Rule> out;
  for (const auto& [pattern, replacement] : list) out.push_back(rule(pattern, replacement));
  return out;
}

// In three groups: before the markup goes, up to fix_text, and after it. The order is the reference's; later rules see
// what earlier ones left.
#define KINORA_DOMAIN R"([a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[<w>/\-]*<b>/?(?!@)))"
const std::vector<Rule>& link_rules() {
  static const std::vector<Rule> rules = make_rules({
      {"<person>", "person"},
      {R"(<b>(?:https?:(?:/{1,3}|[a-zA-Z0-9%])|)" KINORA_DOMAIN, ""},
      {R"(<b>(?:www:(?:/{1,3}|[a-zA-Z0-9%])|)" KINORA_DOMAIN, ""},
  });
  return rules;
}
#undef KINORA_DOMAIN

const std::vector<Rule>& punctuation_rules() {
  static const std::vector<Rule> rules = make_rules({
      {R"(@[<w>]+<b>)", ""},
      // CJK strokes, phonetic extensions, enclosed and compatible characters, ideographs, hexagrams
      {R"([\u31C0-\u31EF\u31F0-\u31FF\u3200-\u33FF\u3400-\u4DBF\u4DC0-\u4DFF\u4E00-\u9FFF]+)", ""},
      // dashes and quotes of all kinds
      {R"([\x{2D}\u058A\u05BE\u1400\u1806\u2010-\u2015\u2E17\u2E1A\u2E3A\u2E3B\u2E40\u301C\u3030\u30A0)"
       R"(\uFE31\uFE32\uFE58\uFE63\uFF0D]+)",
       "-"},
      {R"([\x{60}\u00B4\u00AB\u00BB\u201C\u201D\u00A8])", "\""},
      {R"([\u2018\u2019])", "'"},
      {"&quot;?", ""},
      {"&amp", ""},
      {R"(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})", " "},  // addresses
      {R"(\d:\d\d<s>+$)", ""},                         // article numbers
      {R"(\\n)", " "},
      {R"(#\d{1,3}<b>)", ""},
      {R"(#\d{5,}<b>)", ""},
      {R"(<b>\d{6,}<b>)", ""},
      {R"(<S>+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4))", ""},
      {R"(["']{2,})", "\""},
      {R"(\.{2,})", " "},
      {R"([#\u00AE\u2022\u00A9\u2122\&@\u00B7\u00BA\u00BD\u00BE\u00BF\u00A1\u00A7~)(\]\[}{|\\/*]+)", " "},
      {R"(<s>+\.<s>+)", " "},
  });
  return rules;
}

const std::vector<Rule>& word_rules() {
  static const std::vector<Rule> rules = make_rules({
      {R"(<b>[a-zA-Z]{1,3}\d{3,15}<b>)", ""},
      {R"(<b>[a-zA-Z]+\d+[a-zA-Z]+<b>)", ""},
      {R"(<b>\d+[a-zA-Z]+\d+<b>)", ""},
      {R"((?:worldwide<s>+)?(?:free<s>+)?shipping)", ""},
      {R"((?:free<s>)?download(?:<s>free)?)", ""},
      {R"(<b>click<b><s>(?:for|on)<s>[<w>]+)", ""},
      {R"(<b>(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:<s>images?)?)", ""},
      {R"(<b>page<s>+\d+<b>)", ""},
      {R"(<b>\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*<b>)", " "},
      {R"(<b>\d+\.?\d*[x\u0445\u00D7]\d+\.?\d*<b>)", ""},
      {R"(<b><s>+:<s>+)", ": "},
      {R"((\D[,./])<b>)", "$1 "},
      {R"(<s>+)", " "},
      {R"(^["']([\s\S]+)["']$)", "$1"},
      {R"(^['_,\-:;])", ""},
      {R"(['_,\-:+]$)", ""},
      {R"(^\.<S>+$)", ""},
  });
  return rules;
}

bool is_joiner(char c) { return c == '-' || c == '_'; }

// this-is-my-cat, this_is_my_cat: above three joiners they are spaces.
std::string split_joined(std::string text) {
  if (std::count_if(text.begin(), text.end(), is_joiner) > 3) std::replace_if(text.begin(), text.end(), is_joiner, ' ');
  return text;
}

std::string fix_and_unescape(std::string_view text) { return html_unescape(html_unescape(fix_text(text))); }

std::string clean_caption_once(std::string_view text, bool strip_in_between) {
  check_text(text, "prompt");
  std::string caption = to_lower(strip(unquote_plus(text)));
  caption = html_text(apply_all(link_rules(), std::move(caption)));
  caption = fix_and_unescape(split_joined(apply_all(punctuation_rules(), std::move(caption))));
  if (strip_in_between) caption = strip(std::string(caption));
  return std::string(strip(apply_all(word_rules(), std::move(caption))));
}

// UTF-8 with each broken sequence, as long as it could have been one, replaced by U+FFFD (Unicode 15, section 3.9).
std::string replace_broken(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const size_t length = std::min(utf8_length(bytes[0]), bytes.size());
    if (is_utf8(bytes.substr(0, length))) {
      out += bytes.substr(0, length);
      bytes.remove_prefix(length);
      continue;
    }
    // A prefix is fit to go on when some last bytes would make it whole; 80, 90, A0 and BF reach every range.
    size_t broken = 1;
    for (size_t size = 2; size < utf8_length(bytes[0]) && size <= bytes.size(); ++size) {
      bool fits = false;
      for (const char tail : {'\x80', '\x90', '\xA0', '\xBF'}) {
        std::string whole(bytes.substr(0, size));
        whole.resize(utf8_length(bytes[0]), tail);
        fits = fits || is_utf8(whole);
      }
      if (fits) broken = size;
    }
    append_utf8(out, 0xFFFD);
    bytes.remove_prefix(broken);
  }
  return out;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

std::string unquote_plus(std::string_view text) {
  std::string out;
  std::string run;  // ASCII characters, and the bytes that they spell
  const auto flush = [&] {
    out += replace_broken(run);
    run.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape =
        text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0;
    if (escape) {
      run += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
      i += 2;
    } else if (static_cast<unsigned char>(text[i]) >= 0x80) {
      flush();
      const size_t length = utf8_length(text[i]);
      out += text.substr(i, length);
      i += length - 1;
    } else {
      run += text[i] == '+' ? ' ' : text[i];
    }
  }
  flush();
  return out;
}

std::string clean_open_sora_caption(std::string_view text) { return clean_caption_once(text, true); }

std::string clean_open_sora(std::string_view text) { return clean_open_sora_caption(clean_open_sora_caption(text)); }

std::string clean_latte(std::string_view text, bool clean_caption) {
  check_text(text, "prompt");
  if (clean_caption) return clean_caption_once(clean_caption_once(text, false), false);
  return std::string(strip(to_lower(text)));
}

std::string clean_wan(std::string_view text) {
  check_text(text, "prompt");
  static const Rule kSpaces = rule("<s>+", " ");
  const std::string basic = fix_and_unescape(text);
  return std::string(strip(replace(kSpaces, std::string(strip(basic)))));
}

}  // namespace kinora::text
