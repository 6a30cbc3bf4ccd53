#include "kinora/tensor/ledger.h"

#include "kinora/base/error.h"
#include "kinora/base/memory.h"

namespace kinora {

std::string_view memory_kind_name(MemoryKind kind) {
  constexpr std::array<std::string_view, kNumMemoryKinds> kNames = {"weights", "activations", "caches", "scratch",
                                                                    "mapped"};
  return kNames[static_cast<size_t>(kind)];
}

void Ledger::Count::add(uint64_t bytes) noexcept {
  const uint64_t now = current.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  uint64_t seen = peak.load(std::memory_order_relaxed);
  while (now > seen && !peak.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
  }
}

void Ledger::add(MemoryKind kind, uint64_t bytes) noexcept {
  kinds_[static_cast<size_t>(kind)].add(bytes);
  total_.add(bytes);
}

void Ledger::release(MemoryKind kind, uint64_t bytes) noexcept {
  kinds_[static_cast<size_t>(kind)].current.fetch_sub(bytes, std::memory_order_relaxed);
  total_.current.fetch_sub(bytes, std::memory_order_relaxed);
}

void Ledger::move(MemoryKind from, MemoryKind to, uint64_t bytes) noexcept {
  kinds_[static_cast<size_t>(from)].current.fetch_sub(bytes, std::memory_order_relaxed);
  kinds_[static_cast<size_t>(to)].add(bytes);
}

uint64_t Ledger::current(MemoryKind kind) const noexcept { return kinds_[static_cast<size_t>(kind)].current.load(); }
uint64_t Ledger::peak(MemoryKind kind) const noexcept { return kinds_[static_cast<size_t>(kind)].peak.load(); }
uint64_t Ledger::current_total() const noexcept { return total_.current.load(); }
uint64_t Ledger::peak_total() const noexcept { return total_.peak.load(); }

void Ledger::reset_peaks() noexcept {
  for (Count& count : kinds_) count.peak.store(count.current.load());
  total_.peak.store(total_.current.load());
}

std::string Ledger::summary() const {
  std::string out;
  for (size_t i = 0; i < kNumMemoryKinds; ++i) {
    const auto kind = static_cast<MemoryKind>(i);
    if (peak(kind) == 0) continue;
    out += concat(memory_kind_name(kind), " ", human_bytes(current(kind)), " (peak ", human_bytes(peak(kind)), "), ");
  }
  return out + concat("together ", human_bytes(current_total()), " (peak ", human_bytes(peak_total()), ")");
}

}  // namespace kinora
