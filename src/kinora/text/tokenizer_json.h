// Reads `tokenizer.json`, the file of the tokenizers library, as folders of T5, mT5, UMT5, Llama and OPT have it.
#pragma once

#include <filesystem>
#include <string_view>

#include "kinora/text/pipeline.h"

namespace kinora::text {

/// Parses the JSON text of a tokenizer; `where` names the file in errors. Its truncation and padding settings are left
/// to the caller, as transformers does. Throws DataError for anything malformed, and for a kind of model, normalizer,
/// pre-tokenizer, post-processor or decoder that their files do not have, naming it.
Pipeline parse_tokenizer_json(std::string_view text, std::string_view where);

/// Throws UsageError when there is no such file, DataError as parse_tokenizer_json does.
Pipeline read_tokenizer_json(const std::filesystem::path& file);

}  // namespace kinora::text
