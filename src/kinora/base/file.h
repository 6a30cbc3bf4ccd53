// Files: bounded reads, writes that either replace the whole file or leave the old one, read-only mappings, checksums.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace kinora {

/// The file's bytes. Throws UsageError when it does not exist or is not a regular file, DataError when it has more than
/// `max_bytes`, ResourceError when it cannot be read.
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes);

/// A file that appears under its name only when commit() has made it durable: written to a temporary beside the target,
/// fsync, rename, fsync of the folder. Without commit() the temporary is removed and the old file stays as it was.
/// Symbolic links are followed, and a file that is replaced leaves its mode to the new one.
/// A target that is a folder or no regular file, or whose name is too long, is a UsageError; every other failure (folder
/// missing or not writable, disk full, file too large, fsync) is a ResourceError naming the target or its folder.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Bytes given to write() so far.
  uint64_t num_written() const { return num_written_; }
  /// After a failed commit() the temporary is gone: a failed fsync is final, the data may be lost though a retry
  /// succeeds.
  void commit();

  /// The temporary, with the target's extension: another program may fill it instead of write().
  const std::filesystem::path& temp_path() const { return temp_; }
  /// Where the links lead.
  const std::filesystem::path& target() const { return target_; }

 private:
  void discard() noexcept;
  std::filesystem::path target_;
  std::filesystem::path temp_;
  std::optional<mode_t> old_mode_;
  int fd_ = -1;
  uint64_t num_written_ = 0;
};

/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// fsync of a folder, so that a rename in it survives a power loss. Throws ResourceError.
void sync_folder(const std::filesystem::path& folder);

/// A whole file, mapped read-only: writing through the pointer is a crash, and so is reading pages that another program
/// has cut off meanwhile; changed() tells afterwards whether somebody touched the file. Throws as read_file.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }
  /// Size or modification time differs from when the file was opened. A file replaced by rename has not changed: the
  /// mapping keeps the old one.
  bool changed() const noexcept;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  void* data_ = nullptr;
  size_t size_ = 0;
  timespec modified_{};
};

/// CRC-32 (ISO-HDLC, as in zip and PNG). `seed` is the value of the bytes before, so parts can be summed in turn.
uint32_t crc32(std::span<const std::byte> bytes, uint32_t seed = 0);

}  // namespace kinora
