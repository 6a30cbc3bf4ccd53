// Several prompts from a text file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace kinora::cli {

/// One prompt a line; empty lines and those that begin with # are left out, as are spaces around a prompt and a byte
/// order mark. Throws UsageError for a file that is not there; DataError naming the line for bytes that are not UTF-8, and
/// for a file without a prompt or over 4 MiB.
std::vector<std::string> read_prompts(const std::filesystem::path& path);

}  // namespace kinora::cli
