#include "kinora/text/word_pattern.h"

#include <unicode/regex.h>
#include <unicode/utext.h>

#include "kinora/base/error.h"
#include "kinora/text/unicode.h"

namespace kinora::text {

const std::string_view WordPattern::kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string_view WordPattern::kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct WordPattern::Compiled {
  std::unique_ptr<icu::RegexPattern> pattern;
};

bool WordPattern::is_known(std::string_view pattern) { return pattern == kGpt2 || pattern == kLlama3; }

WordPattern::WordPattern(std::string_view pattern) {
  KINORA_ASSERT(is_known(pattern));
  // ICU's \s lacks U+000B and U+0085, which the tokenizers library counts as white space.
  std::string spelled = replace_all(std::string(pattern), R"(\s)", R"(\p{White_Space})");
  spelled = replace_all(std::move(spelled), R"(\S)", R"(\P{White_Space})");
  UErrorCode status = U_ZERO_ERROR;
  UParseError where{};
  auto compiled = std::make_shared<Compiled>();
  compiled->pattern.reset(icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(spelled), 0, where, status));
  KINORA_ASSERT(U_SUCCESS(status));
  compiled_ = std::move(compiled);
}

std::vector<size_t> WordPattern::ends(std::string_view text) const {
  std::vector<size_t> ends;
  UErrorCode status = U_ZERO_ERROR;
  UText input = UTEXT_INITIALIZER;
  utext_openUTF8(&input, text.data(), static_cast<int64_t>(text.size()), &status);
  const std::unique_ptr<icu::RegexMatcher> matcher(compiled_->pattern->matcher(status));
  KINORA_ASSERT(U_SUCCESS(status));
  matcher->reset(&input);
  size_t done = 0;
  while (matcher->find(status) && U_SUCCESS(status)) {
    const auto begin = static_cast<size_t>(matcher->start64(status)), end = static_cast<size_t>(matcher->end64(status));
    if (begin > done) ends.push_back(begin);
    ends.push_back(done = end);
  }
  if (done < text.size()) ends.push_back(text.size());
  utext_close(&input);
  return ends;
}

}  // namespace kinora::text
