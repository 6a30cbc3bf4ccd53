#include "kinora/tensor/block_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

namespace kinora {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t whole_pages(size_t bytes) {
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

BlockPool::~BlockPool() {
  const std::lock_guard lock(mutex_);
  keep_at_most(0);
}

void* BlockPool::take(size_t bytes) {
  bytes = whole_pages(bytes);
  const std::lock_guard lock(mutex_);
  void* block = take_free(bytes);
  if (block == nullptr) {
    // No free range is long enough: what is kept makes room first, so that the peak stays that of what is taken.
    const size_t after = taken_ + bytes;
    keep_at_most(most_taken_ > after ? most_taken_ - after : 0);
    block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return nullptr;
    // Without huge pages the first touch of a block costs as much as a pass over it.
    if (bytes >= kHugePage) ::madvise(block, bytes, MADV_HUGEPAGE);
  }
  taken_ += bytes;
  most_taken_ = std::max(most_taken_, taken_);
  return block;
}

void BlockPool::give(void* block, size_t bytes) {
  bytes = whole_pages(bytes);
  const std::lock_guard lock(mutex_);
  taken_ -= bytes;
  add_free(static_cast<Address>(block), bytes);
  keep_at_most(most_kept_);
}

size_t BlockPool::taken() const {
  const std::lock_guard lock(mutex_);
  return taken_;
}

size_t BlockPool::held() const {
  const std::lock_guard lock(mutex_);
  return taken_ + kept_;
}

void* BlockPool::take_free(size_t bytes) {
  const auto fit = by_size_.lower_bound({bytes, nullptr});
  if (fit == by_size_.end()) return nullptr;
  const auto [length, begin] = *fit;
  remove_free(free_.find(begin));
  if (length > bytes) add_free(begin + bytes, length - bytes);
  return begin;
}

void BlockPool::add_free(Address begin, size_t bytes) {
  const auto next = free_.lower_bound(begin);
  if (next != free_.end() && begin + bytes == next->first) {
    bytes += next->second;
    remove_free(next);
  }
  const auto after = free_.lower_bound(begin);
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == begin) {
      begin = before->first;
      bytes += before->second;
      remove_free(before);
    }
  }
  free_.emplace(begin, bytes);
  by_size_.emplace(bytes, begin);
  kept_ += bytes;
}

void BlockPool::remove_free(std::map<Address, size_t>::iterator range) {
  kept_ -= range->second;
  by_size_.erase({range->second, range->first});
  free_.erase(range);
}

void BlockPool::keep_at_most(size_t bytes) {
  while (kept_ > bytes) {
    const auto [length, begin] = *by_size_.rbegin();
    const size_t returned = std::min(length, whole_pages(kept_ - bytes));
    remove_free(free_.find(begin));
    ::munmap(begin + (length - returned), returned);
    if (length > returned) add_free(begin, length - returned);
  }
}

}  // namespace kinora
