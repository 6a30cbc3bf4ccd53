#include "kinora/tensor/checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/base/json.h"
#include "kinora/base/utf8.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWhole[] = {"model.safetensors", "diffusion_pytorch_model.safetensors"};
constexpr size_t kMaxIndexBytes = size_t{32} << 20;  // of 100,000 tensors some 15 MB
constexpr std::string_view kIndexEnd = ".safetensors.index.json";

[[noreturn]] void refuse_pickle(const fs::path& path) {
  fs::path clean = path;
  if (!clean.has_filename()) clean = clean.parent_path();
  const std::string out = (clean.parent_path() / clean.stem()).string() + "-safetensors";
  throw UsageError(concat("'", path.string(), "' holds pickled weights, which can run code and are not read"),
                   concat("convert them once: python3 tools/convert.py '", clean.string(), "' '", out, "'"));
}

// Shard names come from a foreign file. Links are followed only where the Hugging Face cache puts them: from
// snapshots/REVISION/ into the blobs/ folder beside snapshots/.
fs::path shard_path(const fs::path& folder, const std::string& name, const std::string& what) {
  const bool is_plain =
      !name.empty() && name != "." && name != ".." && name.find_first_of(std::string("/\\\0", 3)) == name.npos;
  if (!is_plain || !name.ends_with(".safetensors")) {
    throw DataError(concat(what, ": \"", printable(name), "\" is not the plain name of a .safetensors file"));
  }
  const fs::path path = folder / name;
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  const fs::path home = fs::canonical(folder, error);
  const fs::path target = fs::canonical(path, error);
  if (error) throw DataError(concat("'", path.string(), "' is a broken link"));
  if (target.parent_path() == home) return path;
  for (fs::path up = home; up.has_relative_path(); up = up.parent_path()) {
    if (up.filename() == "snapshots" && target.parent_path() == up.parent_path() / "blobs") return path;
  }
  throw DataError(concat("'", path.string(), "' is a link out of its folder"), "copy the shard into the folder");
}

}  // namespace

bool is_pickle_name(const fs::path& path) {
  const fs::path extension = path.extension();
  return extension == ".pt" || extension == ".pth" || extension == ".bin" || extension == ".ckpt";
}

Checkpoint::Checkpoint(const fs::path& path) : path_(path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none) {
    throw ResourceError(concat("'", path.string(), "' cannot be read: ", error.message()));
  }
  if (!fs::exists(status)) throw UsageError(concat("'", path.string(), "' does not exist"));
  if (fs::is_directory(status)) {
    open_folder(path);
  } else if (is_pickle_name(path)) {
    refuse_pickle(path);
  } else if (path.extension() == ".json") {
    open_index(path);
  } else {
    open_file(path);
  }
}

void Checkpoint::open_file(const fs::path& path) {
  auto file = std::make_shared<const SafetensorsFile>(path);
  for (const TensorEntry& entry : file->tensors()) {
    const auto [place, is_new] = tensors_.emplace(entry.name, CheckpointTensor{file, &entry});
    if (!is_new) {
      throw DataError(concat("tensor \"", entry.name, "\" is in both '", place->second.file->path().string(), "' and '",
                             path.string(), "'"),
                      "give the one file that you mean");
    }
  }
  files_.push_back(std::move(file));
}

void Checkpoint::open_folder(const fs::path& folder) {
  std::vector<fs::path> indexes;
  std::vector<fs::path> files;
  std::vector<fs::path> pickles;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    // Hidden files are temporaries, of this program and of others.
    std::error_code unknown;
    if (name.starts_with('.') || entry->is_directory(unknown)) continue;
    if (name.ends_with(kIndexEnd)) indexes.push_back(entry->path());
    if (entry->path().extension() == ".safetensors") files.push_back(entry->path());
    if (is_pickle_name(name)) pickles.push_back(entry->path());
  }
  if (error) throw ResourceError(concat("folder '", folder.string(), "' cannot be read: ", error.message()));
  for (const std::string_view name : kWhole) {
    if (fs::exists(folder / name)) return open_file(folder / name);
  }
  for (const std::string_view name : kWhole) {
    const fs::path index = folder / concat(name, ".index.json");
    if (fs::exists(index)) return open_index(index);
  }
  if (indexes.size() == 1) return open_index(indexes.front());
  if (indexes.size() > 1) {
    throw UsageError(concat("folder '", folder.string(), "' has ", indexes.size(), " shard indexes"),
                     "give the .index.json that you mean");
  }
  if (files.empty() && !pickles.empty()) refuse_pickle(folder);
  if (files.empty()) throw UsageError(concat("folder '", folder.string(), "' has no .safetensors file"));
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) open_file(file);
}

void Checkpoint::open_index(const fs::path& index) {
  const std::string what = concat("'", index.string(), "'");
  const Json json = read_json_file(index, {.max_bytes = kMaxIndexBytes});
  const JsonObject map = JsonObject(json, what).require_object("weight_map");
  std::map<std::string, std::string> shard_of;
  std::set<std::string> shards;
  for (const auto& [name, shard] : map.json().items()) {
    if (!shard.is_string()) throw DataError(concat(what, ": tensor \"", printable(name), "\" has no file name"));
    shards.insert(shard_of[name] = shard.get<std::string>());
  }
  for (const std::string& shard : shards) {
    const fs::path path = shard_path(index.parent_path(), shard, what);
    if (!fs::exists(path)) {
      throw DataError(concat(what, ": the shard '", shard, "' is missing"), "fetch the model again, all files of it");
    }
    open_file(path);
  }
  // Both ways: what the index promises is there, and nothing lies in a shard that the index does not know.
  for (const auto& [name, shard] : shard_of) {
    const CheckpointTensor* tensor = find(name);
    if (tensor == nullptr || tensor->file->path().filename() != shard) {
      throw DataError(concat(what, ": tensor \"", printable(name), "\" is not in '", shard, "'"));
    }
  }
  for (const auto& [name, tensor] : tensors_) {
    if (!shard_of.contains(name)) {
      throw DataError(
          concat(what, ": tensor \"", name, "\" of '", tensor.file->path().filename().string(), "' is not listed"));
    }
  }
}

const CheckpointTensor* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const CheckpointTensor& Checkpoint::require(std::string_view name) const {
  const CheckpointTensor* tensor = find(name);
  if (tensor == nullptr) throw DataError(concat("tensor \"", name, "\" is missing in '", path_.string(), "'"));
  return *tensor;
}

uint64_t Checkpoint::num_bytes() const {
  uint64_t sum = 0;
  for (const auto& [name, tensor] : tensors_) sum += tensor.entry->num_bytes();
  return sum;
}

void Checkpoint::check_unchanged() const {
  for (const auto& file : files_) file->check_unchanged();
}

}  // namespace kinora
