// The prompt cleaning that video models were trained with: captions went through these rules, so prompts must as well.
// Golden strings are in tests/cases (VideoSys OpenSoraPipeline; diffusers LattePipeline and WanPipeline).
// All take UTF-8 of at most 64 KiB and throw UsageError for anything else, and for text built to make the rules run for
// seconds.
#pragma once

#include <string>
#include <string_view>

namespace kinora::text {

/// One pass of Open-Sora's caption cleaning (_clean_caption): lower case; links, markup, names, ideographs, numbers,
/// file names, advertising and code-like words dropped; punctuation made plain.
std::string clean_open_sora_caption(std::string_view text);

/// Open-Sora's text_preprocessing: two passes.
std::string clean_open_sora(std::string_view text);

/// Latte's _text_preprocessing: two passes of nearly the same rules, or only lower case and strip.
std::string clean_latte(std::string_view text, bool clean_caption);

/// Wan's prompt_clean: fix_text, character references twice, white space squeezed.
std::string clean_wan(std::string_view text);

/// Python's urllib.parse.unquote_plus: "+" is a space, %XX a byte of UTF-8, broken sequences U+FFFD.
std::string unquote_plus(std::string_view text);

}  // namespace kinora::text
