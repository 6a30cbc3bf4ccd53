// Prompts: cleaning, segments, suffixes, mask strategies.
#include <string>

#include "fuzz.h"
#include "kinora/base/utf8.h"
#include "kinora/text/prompt.h"
#include "kinora/text/prompt_cleaning.h"

using namespace kinora;

namespace {

void is_text(const std::string& text) { fuzz::promise(is_utf8(text), "the result is UTF-8"); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view prompt = fuzz::text_of(data, size);
  fuzz::refuse_or([&] { is_text(text::clean_open_sora(prompt)); });
  fuzz::refuse_or([&] { is_text(text::clean_latte(prompt, true)); });
  fuzz::refuse_or([&] { is_text(text::clean_wan(prompt)); });
  fuzz::refuse_or([&] { text::check_prompt(prompt); });
  fuzz::refuse_or([&] { text::PromptSegments::split(prompt).at(0); });
  fuzz::refuse_or([&] { text::split_json_suffix(prompt); });
  fuzz::refuse_or([&] { text::parse_mask_strategy(prompt); });
  fuzz::refuse_or([&] { is_text(text::prepare_open_sora_prompt(prompt)); });
  return 0;
}
