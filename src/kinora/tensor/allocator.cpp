#include "kinora/tensor/allocator.h"

#include <c10/core/Allocator.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/tensor/block_pool.h"

namespace kinora {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLargestBlock = size_t{1} << 47;  // the address space of a process
constexpr size_t kPooled = size_t{256} << 10;      // smaller blocks fit into malloc's heap without holes that count

thread_local MemoryKind current_kind = MemoryKind::activations;

// Lies before each block: a deleter gets nothing but the pointer. One alignment unit, so the data stays aligned.
struct alignas(kAlignment) BlockHead {
  Ledger* ledger;
  uint64_t bytes;
  MemoryKind kind;
};
static_assert(sizeof(BlockHead) == kAlignment);

/// Never destroyed: tensors may be freed after main.
BlockPool& pool() {
  static auto* const shared = new BlockPool;
  return *shared;
}

void* take_block(size_t bytes) {
  if (bytes >= kPooled) return pool().take(bytes);
  void* block = nullptr;
  return ::posix_memalign(&block, kAlignment, bytes) == 0 ? block : nullptr;
}

BlockHead* head_of(void* data) { return static_cast<BlockHead*>(data) - 1; }

void free_block(void* data) {
  if (data == nullptr) return;
  BlockHead* head = head_of(data);
  const uint64_t bytes = head->bytes;
  head->ledger->release(head->kind, bytes);
  if (bytes >= kPooled)
    pool().give(head, bytes);
  else
    std::free(head);
}

class CountingAllocator final : public c10::Allocator {
 public:
  void set_ledger(Ledger& ledger) { ledger_.store(&ledger); }

  c10::DataPtr allocate(size_t num_bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (num_bytes == 0) return {nullptr, nullptr, &free_block, cpu};
    const uint64_t counted = num_bytes + sizeof(BlockHead);
    void* const block = num_bytes > kLargestBlock ? nullptr : take_block(counted);
    if (block == nullptr) {
      throw ResourceError(concat("out of memory: ", human_bytes(num_bytes), " more are needed, ",
                                 human_bytes(available_memory_bytes()), " are free"),
                          "take smaller sizes (frames, height, width, batch), or free memory");
    }
    Ledger* const ledger = ledger_.load();
    auto* head = new (block) BlockHead{ledger, counted, current_kind};
    ledger->add(head->kind, counted);
    void* const data = head + 1;
    return {data, data, &free_block, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &free_block; }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }

 private:
  std::atomic<Ledger*> ledger_{nullptr};
};

}  // namespace

void install_counting_allocator(Ledger& ledger) {
  // LibTorch keeps the pointer for good, and tensors may be freed after main: never destroyed.
  static auto* const allocator = new CountingAllocator;
  allocator->set_ledger(ledger);
  constexpr uint8_t kAboveDefault = 10;
  c10::SetAllocator(c10::DeviceType::CPU, allocator, kAboveDefault);
}

CountAs::CountAs(MemoryKind kind) : before_(current_kind) { current_kind = kind; }
CountAs::~CountAs() { current_kind = before_; }

void recount_as(const at::Tensor& tensor, MemoryKind kind) {
  if (!tensor.defined() || !tensor.has_storage()) return;
  const c10::DataPtr& data = tensor.storage().data_ptr();
  if (data.get_deleter() != &free_block || data.get_context() == nullptr) return;
  BlockHead* head = head_of(data.get_context());
  head->ledger->move(head->kind, kind, head->bytes);
  head->kind = kind;
}

}  // namespace kinora
