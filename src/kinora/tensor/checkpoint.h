// The weights of a model, wherever people have them: one safetensors file, a folder with one, or shards with an index.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/tensor/safetensors.h"

namespace kinora {

/// A tensor of a checkpoint: the file that holds it (shared: it keeps the mapping alive) and its entry there.
struct CheckpointTensor {
  std::shared_ptr<const SafetensorsFile> file;
  const TensorEntry* entry = nullptr;

  std::span<const std::byte> bytes() const { return file->bytes(*entry); }
};

class Checkpoint {
 public:
  /// `path`: a .safetensors file; an .index.json of shards; or a folder that holds one of (first match)
  ///   model.safetensors, diffusion_pytorch_model.safetensors, their .index.json, any other single .index.json,
  ///   all its .safetensors files.
  /// Throws UsageError for files that are pickles (.pt .pth .bin .ckpt), naming the command that converts them, and for
  /// a path without weights; ResourceError where the system refuses a look; DataError for damaged files, a shard name
  /// that is not a plain name in the same folder, a tensor in two shards or in none.
  explicit Checkpoint(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<std::shared_ptr<const SafetensorsFile>>& files() const { return files_; }
  const std::map<std::string, CheckpointTensor, std::less<>>& tensors() const { return tensors_; }
  /// nullptr when absent.
  const CheckpointTensor* find(std::string_view name) const;
  /// DataError naming the tensor and the checkpoint when absent.
  const CheckpointTensor& require(std::string_view name) const;
  /// Sum over all tensors.
  uint64_t num_bytes() const;
  /// DataError when a file was cut or written to since it was opened; call it after the last read of its data.
  void check_unchanged() const;

 private:
  void open_file(const std::filesystem::path& file);
  void open_folder(const std::filesystem::path& folder);
  void open_index(const std::filesystem::path& index);
  std::filesystem::path path_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::map<std::string, CheckpointTensor, std::less<>> tensors_;
};

/// Whether the file name ends as PyTorch's pickles do: .pt .pth .bin .ckpt.
bool is_pickle_name(const std::filesystem::path& path);

}  // namespace kinora
