#include "kinora/train/run_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/utf8.h"

namespace kinora::train {
namespace fs = std::filesystem;
namespace {

using Skip = std::function<bool(std::string_view key)>;

Json member(const Json& json, const std::string& name) {
  return json.is_object() && json.contains(name) ? json.at(name) : Json();
}

std::optional<std::string> difference(const Json& a, const Json& b, const std::string& key, const Skip& skip) {
  const auto has_members = [](const Json& json) { return json.is_object() || json.is_null(); };
  if (!has_members(a) || !has_members(b)) return a == b || (skip && skip(key)) ? std::nullopt : std::optional(key);
  std::set<std::string> names;
  for (const Json* json : {&a, &b}) {
    for (const auto& item : json->items()) names.insert(item.key());
  }
  for (const std::string& name : names) {
    const auto found = difference(member(a, name), member(b, name), key.empty() ? name : key + "." + name, skip);
    if (found) return found;
  }
  return std::nullopt;
}

/// The value at "a.b.c", short.
std::string shown(Json json, std::string_view key) {
  while (!key.empty() && json.is_object()) {
    const size_t dot = key.find('.');
    json = member(json, std::string(key.substr(0, dot)));
    key = dot == std::string_view::npos ? std::string_view() : key.substr(dot + 1);
  }
  return json.is_null() ? "absent" : printable(json.dump(), 60);
}

}  // namespace

void make_folder(const fs::path& folder) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw ResourceError(concat("cannot make the folder ", folder.string(), ": ", failed.message()));
}

FolderLock::FolderLock(const fs::path& folder)
    : fd_(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  if (fd_ >= 0) ::close(fd_);
  if (error == EWOULDBLOCK)
    throw UsageError(concat("another training works in ", folder.string()),
                     "wait for its end, or choose another folder");
  throw ResourceError(concat("cannot lock the folder ", folder.string(), ": ", std::generic_category().message(error)));
}

// The file stays: were it removed, a run that has just opened it would lock a file without a name.
FolderLock::~FolderLock() { ::close(fd_); }

void remove_temporaries(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    const fs::path name = entry->path().filename(), kind = name.extension();
    const bool is_ours = kind == ".json" || kind == ".safetensors" || kind == ".csv" || kind == ".svg";
    if (is_ours && name.string().starts_with('.') && name.string().find(".tmp-") != std::string::npos)
      found.push_back(entry->path());
  }
  for (const fs::path& file : found) fs::remove(file, ignored);
}

std::optional<std::string> first_difference(const Json& a, const Json& b, const Skip& skip) {
  return difference(a, b, "", skip);
}

void keep_config(const fs::path& folder, const Json& config, const Skip& may_change) {
  const fs::path file = folder / "config.json";
  std::error_code failed;
  if (fs::exists(file, failed)) {
    const Json begun = read_json_file(file);
    if (const auto key = first_difference(begun, config, may_change)) {
      throw UsageError(concat(folder.string(), " was begun with another config: \"", *key, "\" is ",
                              shown(config, *key), ", and was ", shown(begun, *key)),
                       "give it the config that it was begun with, or train into another folder");
    }
    if (begun == config) return;
  }
  write_file(file, config.dump(2) + "\n");
}

void replace_folder(const fs::path& made, const fs::path& target) {
  std::error_code failed, ignored;
  const fs::path old = target.string() + ".old";
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(made, ignored);
  } else {
    fs::remove_all(old, ignored);
    fs::rename(target, old, ignored);  // there may be none
    fs::rename(made, target, failed);
    if (failed) throw ResourceError(concat("cannot rename ", made.string(), ": ", failed.message()));
    fs::remove_all(old, ignored);
  }
  sync_folder(target.has_parent_path() ? target.parent_path() : fs::path("."));
}

}  // namespace kinora::train
