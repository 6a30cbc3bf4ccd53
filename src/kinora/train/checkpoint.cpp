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
constexpr std::string_view kStem = "step-", kTensors = ".safetensors", kSum = ".json";
constexpr size_t kMostDigits = 18;  // more may not fit in int64

std::string stem(int64_t step) { return concat(kStem, step); }

/// The files step-N with this ending, oldest step first.
std::map<int64_t, fs::path> steps_with(const fs::path& folder, std::string_view ending) {
  std::map<int64_t, fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().stem().string();
    if (entry->path().extension() != ending || !name.starts_with(kStem)) continue;
    const std::string digits = name.substr(kStem.size());
    if (digits.empty() || digits.size() > kMostDigits || digits.find_first_not_of("0123456789") != std::string::npos)
      continue;
    found[std::stoll(digits)] = entry->path();
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
  const fs::path file = folder / concat(stem(step), kTensors);
  save_tensors(file, tensors);
  write_file(folder / concat(stem(step), kSum), Json{{"step", step}, {"crc32", file_sum(file)}}.dump(2) + "\n");
  drop_other_checkpoints(folder, step);
}

void drop_other_checkpoints(const fs::path& folder, int64_t step) {
  auto kept = steps_with(folder, kSum);
  // A later step is damaged, or the run would have gone on from there; it must not count as one of those that are kept.
  kept.erase(kept.upper_bound(step), kept.end());
  while (kept.size() > kKept) kept.erase(kept.begin());
  // The sums first: what is left does not count.
  for (const std::string_view ending : {kSum, kTensors}) {
    for (const auto& [found, file] : steps_with(folder, ending)) {
      std::error_code ignored;
      if (!kept.contains(found)) fs::remove(file, ignored);
    }
  }
}

std::optional<SavedStep> newest_checkpoint(const fs::path& folder) {
  const auto steps = steps_with(folder, kSum);
  for (auto it = steps.rbegin(); it != steps.rend(); ++it) {
    const auto& [step, sum_file] = *it;
    const fs::path file = fs::path(sum_file).replace_extension(kTensors);
    try {
      const Json json = read_json_file(sum_file);
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
