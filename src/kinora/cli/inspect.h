// The pieces of kinora inspect: what each kind of folder says of itself.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/tensor/safetensors.h"

namespace kinora::cli {

struct InspectOptions {
  std::string path;
  bool json = false, summary = false;
};

/// Last name of a path, fit for a message.
std::string name_of(const std::filesystem::path& path);
/// False also for what cannot be looked at.
bool is_file(const std::filesystem::path& path);
/// Files and folders in it but hidden ones, by name. Throws filesystem_error where the system refuses.
std::vector<std::filesystem::directory_entry> entries_of(const std::filesystem::path& folder);
void print_config(const Json& config);
/// "STDiT3: kinora generate takes it", or that this build does not know it.
std::string class_text(const std::string& cls);

/// A training's folder has a config.json with stages and a world.
bool is_run(const std::filesystem::path& folder);
void inspect_run(const InspectOptions& options, const std::filesystem::path& folder);

/// Class, method, source and names of a parity case, from its metadata; null for another file.
Json case_of(const SafetensorsFile& file);
void print_case(const Json& facts);

/// A scheduler's or a tokenizer's folder. False, and nothing printed, for another.
bool inspect_description(const InspectOptions& options, const std::filesystem::path& folder);

/// UsageError that says what is in the folder and what would be known.
[[noreturn]] void refuse_unknown(const std::filesystem::path& folder);

}  // namespace kinora::cli
