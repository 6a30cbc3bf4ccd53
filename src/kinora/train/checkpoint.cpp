#include "kinora/train/checkpoint.h"

#include <algorithm>
#include <map>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/base/log.h"
#include "kinora/train/run_folder.h"

namespace kinora::train {
namespace fs = std::filesystem;
namespace {

constexpr size_t kKept = 3;
constexpr std::string_view kStem = "step-";
constexpr size_t kMostDigits = 18;  // more may not fit in int64

std::string stem(int64_t step) { return concat(kStem, step); }

/// Steps that have a sum, oldest first.
std::map<int64_t, fs::path> complete_steps(const fs::path& folder) {
  std::map<int64_t, fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().stem().string();
    if (entry->path().extension() != ".json" || !name.starts_with(kStem)) continue;
    const std::string digits = name.substr(kStem.size());
    if (digits.empty() || digits.size() > kMostDigits || digits.find_first_not_of("0123456789") != std::string::npos)
      continue;
    found[std::stoll(digits)] = folder / (name + ".safetensors");
  }
  // A folder that cannot be read may well have checkpoints: a run must not start anew for that.
  if (error && error != std::errc::no_such_file_or_directory)
    throw ResourceError(concat("the folder ", folder.string(), " cannot be read: ", error.message()));
  return found;
}

uint32_t file_sum(const fs::path& file) {
  const MappedFile map(file);
  return crc32(map.bytes());
}

}  // namespace

void save_checkpoint(const fs::path& folder, int64_t step, const NamedTensors& tensors) {
  make_folder(folder);
  const fs::path file = folder / (stem(step) + ".safetensors");
  save_tensors(file, tensors);
  write_file(folder / (stem(step) + ".json"), Json{{"step", step}, {"crc32", file_sum(file)}}.dump(2) + "\n");
  auto steps = complete_steps(folder);
  const auto drop = [&](std::map<int64_t, fs::path>::iterator at) {
    // The sum first: what is left does not count.
    std::error_code failed;
    fs::remove(fs::path(at->second).replace_extension(".json"), failed);
    fs::remove(at->second, failed);
    return steps.erase(at);
  };
  // A later step is damaged, or the run would have gone on from there; it must not count as one of those that are kept.
  for (auto at = steps.upper_bound(step); at != steps.end();) at = drop(at);
  while (steps.size() > kKept) drop(steps.begin());
}

std::optional<SavedStep> newest_checkpoint(const fs::path& folder) {
  const auto steps = complete_steps(folder);
  for (auto it = steps.rbegin(); it != steps.rend(); ++it) {
    const auto& [step, file] = *it;
    try {
      const Json json = read_json_file(fs::path(file).replace_extension(".json"));
      const JsonObject sum(json, file.string());
      const bool is_whole = sum.require_int("step") == step && sum.require_int("crc32", 0) == file_sum(file);
      if (is_whole) return SavedStep{.step = step, .file = file};
      log_warn(concat(file.string(), " is damaged (its sum or its step differs); trying the one before"));
    } catch (const Error& e) {
      log_warn(concat(file.string(), ": ", e.what(), "; trying the one before"));
    }
  }
  if (!steps.empty())
    throw DataError(concat("no checkpoint in ", folder.string(), " is whole"), "remove the folder to start anew");
  return std::nullopt;
}

}  // namespace kinora::train
