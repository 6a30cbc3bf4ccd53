// The safetensors format (huggingface/safetensors, format description): 8 bytes of header length, a JSON header, the
// data. Everything is checked before data is touched or memory is taken for it; no ATen, tensors are spans into the
// mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/base/file.h"
#include "kinora/tensor/dtype.h"

namespace kinora {

/// One tensor of a file. `begin` and `end` count bytes from the start of the data part.
struct TensorEntry {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t num_bytes() const { return end - begin; }
  uint64_t num_elements() const { return num_bytes() / dtype_bytes(dtype); }
  bool operator==(const TensorEntry&) const = default;
};

using Metadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
  Metadata metadata;
  std::vector<TensorEntry> tensors;  // in the order of their data
  uint64_t data_begin = 0;           // offset of the data part in the file
};

/// Checks the first bytes of a file of `file_bytes` bytes; `head` must hold the length and the header or, when the file
/// is shorter, all of it. `what` names the file in errors. Throws DataError naming tensor, expected and found.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> head, uint64_t file_bytes, std::string_view what);

/// Bytes of a tensor; false when the product does not fit in 63 bits or a size is negative. The one place that
/// multiplies.
bool tensor_num_bytes(std::span<const int64_t> shape, DType dtype, uint64_t& bytes);

/// "[2, 3]" for messages.
std::string shape_text(std::span<const int64_t> shape);

/// A checked and mapped file. Keep it (shared) as long as any span of it is in use.
class SafetensorsFile {
 public:
  /// Throws DataError (format), UsageError (no such file), ResourceError (unreadable).
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return map_.path(); }
  const Metadata& metadata() const { return header_.metadata; }
  /// In the order of their data.
  std::span<const TensorEntry> tensors() const { return header_.tensors; }
  /// nullptr when the file has no such tensor.
  const TensorEntry* find(std::string_view name) const;
  /// The entry must be one of tensors(). Not aligned: a copy is needed where the address does not suit the type.
  std::span<const std::byte> bytes(const TensorEntry& entry) const;
  /// DataError when the file was cut or written to since it was opened; call it after the last read of its data.
  void check_unchanged() const;

 private:
  MappedFile map_;
  SafetensorsHeader header_;
  std::map<std::string_view, const TensorEntry*> by_name_;
};

/// What is to be written: the spans must stay valid until the call returns.
struct TensorBytes {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes a file tensor by tensor, so that only one needs to be in memory. The file appears with commit().
/// Names must be unique, at most 512 bytes, without control characters; at most 100,000 tensors, 8 dimensions each;
/// otherwise UsageError. Disk trouble: ResourceError, the old file unchanged; a disk without room for the whole file is
/// refused before the first tensor.
class SafetensorsWriter {
 public:
  struct Spec {
    std::string name;
    DType dtype = DType::F32;
    std::vector<int64_t> shape;
  };
  SafetensorsWriter(const std::filesystem::path& path, std::span<const Spec> tensors, const Metadata& metadata = {});
  /// The next bytes of the data part: the tensors one after the other, in pieces of any size.
  void write(std::span<const std::byte> bytes);
  /// UsageError unless exactly the announced bytes were written.
  void commit();
  /// Size of the file when complete.
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  AtomicFile file_;
  uint64_t file_bytes_ = 0;
};

/// All at once, in the order given.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorBytes> tensors,
                       const Metadata& metadata = {});

}  // namespace kinora
