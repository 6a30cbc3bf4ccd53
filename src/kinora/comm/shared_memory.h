// Memory that the processes of one host share, without a file that could outlive them: its name is gone as soon as all
// have opened it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace kinora::comm {

/// Where such memory is made: /dev/shm, or the folder of temporary files.
std::filesystem::path shared_memory_folder();
/// The same number for processes that see the same folder of the same host, and no other.
uint64_t shared_memory_key();

class SharedMemory {
 public:
  /// Zeros under the name `kinora-board-PID-ID` in shared_memory_folder(). Throws ResourceError.
  static SharedMemory create(const std::string& name, size_t bytes);
  /// What another process has created. Throws ResourceError.
  static SharedMemory open(const std::string& name, size_t bytes);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  void* data() const { return data_; }
  /// Takes the name away; the memory stays while it is open.
  void forget();

 private:
  SharedMemory(std::filesystem::path path, int fd, size_t bytes, bool is_owner);
  std::filesystem::path path_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool is_named_ = false;
};

/// Names that no other job has, with this process's id: of a board, and of the folder of a job that this process starts.
std::string board_name();
std::string job_name();
/// Removes what bears such a name, belongs to this user, and was made by a process that has ended.
void remove_leftovers(const std::filesystem::path& folder = shared_memory_folder());

}  // namespace kinora::comm
