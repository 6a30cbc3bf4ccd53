// Large blocks of memory, taken from the system page by page and kept for the next that fits. malloc's heap can hold
// several times what is alive when large blocks of changing sizes come and go; this holds at most what was alive at
// once, so that the resident peak of a process follows from what it computes.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace kinora {

/// Thread-safe. Blocks are whole pages; memory that is reused holds old values.
class BlockPool {
 public:
  /// Free blocks are kept up to `most_kept` bytes together.
  explicit BlockPool(size_t most_kept = size_t{1} << 30) : most_kept_(most_kept) {}
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  /// nullptr when the system has no more.
  void* take(size_t bytes);
  /// What take() gave for as many bytes.
  void give(void* block, size_t bytes);

  /// Bytes taken, and the bytes of this pool that the system counts: never more than were taken at one time.
  size_t taken() const;
  size_t held() const;

 private:
  using Address = std::byte*;
  void add_free(Address begin, size_t bytes);
  void remove_free(std::map<Address, size_t>::iterator range);
  /// Returns memory to the system until at most `bytes` are kept.
  void keep_at_most(size_t bytes);
  void* take_free(size_t bytes);

  const size_t most_kept_;
  mutable std::mutex mutex_;
  std::map<Address, size_t> free_;  ///< ranges that do not touch each other
  std::set<std::pair<size_t, Address>> by_size_;
  size_t kept_ = 0, taken_ = 0, most_taken_ = 0;
};

}  // namespace kinora
