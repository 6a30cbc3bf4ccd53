// A training's folder: one run at a time works in it, all its runs have one config, and what they publish appears whole.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "kinora/base/json.h"

namespace kinora::train {

/// With its parents, unless it is there. Throws ResourceError.
void make_folder(const std::filesystem::path& folder);

/// Holds FOLDER/lock while it lives (flock: the system frees it when the process ends, however it ends). Throws
/// UsageError naming the folder when another run holds it, ResourceError where no lock can be had.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

/// Removes what writers of .json, .safetensors, .csv and .svg files that were killed have left in the folder, not below it.
/// For the holder of the lock: the temporary of a writer at work looks the same.
void remove_temporaries(const std::filesystem::path& folder);

/// The first key in alphabetical order, written "stages.spatial.batch", that has another value in `b` and that `skip`
/// is not true for. null counts as absent.
std::optional<std::string> first_difference(const Json& a, const Json& b,
                                            const std::function<bool(std::string_view key)>& skip = {});

/// Makes `config` FOLDER/config.json. Throws UsageError naming the first key in which it differs from the one that is
/// there, but for keys that `may_change`.
void keep_config(const std::filesystem::path& folder, const Json& config,
                 const std::function<bool(std::string_view key)>& may_change);

/// The folder `made` takes the name of `target`, and what had it is removed. Whoever looks sees the one or the other,
/// never a mixture; on a disk that cannot exchange two names there is none for a moment. Throws ResourceError.
void replace_folder(const std::filesystem::path& made, const std::filesystem::path& target);

}  // namespace kinora::train
