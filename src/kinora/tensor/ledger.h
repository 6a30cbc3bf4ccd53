// Who holds how much memory. A plain object that the program makes and passes around; counting is thread-safe and
// cheap. The counting allocator (allocator.h) feeds it with every tensor; what else takes memory holds a `Held`.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kinora {

/// weights: parameters in memory of their own. activations: values between layers (what nobody claims otherwise).
/// caches: kept between steps by a policy. scratch: inside one operator. mapped: file pages used in place.
enum class MemoryKind : uint8_t { weights, activations, caches, scratch, mapped };
inline constexpr size_t kNumMemoryKinds = 5;
std::string_view memory_kind_name(MemoryKind kind);

class Ledger {
 public:
  void add(MemoryKind kind, uint64_t bytes) noexcept;
  /// At most what was added before.
  void release(MemoryKind kind, uint64_t bytes) noexcept;
  /// Gives bytes another kind; the total stays.
  void move(MemoryKind from, MemoryKind to, uint64_t bytes) noexcept;

  uint64_t current(MemoryKind kind) const noexcept;
  uint64_t peak(MemoryKind kind) const noexcept;
  uint64_t current_total() const noexcept;
  /// The highest sum at one time, not the sum of the kinds' peaks.
  uint64_t peak_total() const noexcept;
  /// All peaks start anew at the current values.
  void reset_peaks() noexcept;

  /// "weights 1.2 GB, activations 310.0 MB (peak 2.1 GB), ..."; kinds that were never used are left out.
  std::string summary() const;

 private:
  struct Count {
    std::atomic<uint64_t> current{0};
    std::atomic<uint64_t> peak{0};
    void add(uint64_t bytes) noexcept;
  };
  std::array<Count, kNumMemoryKinds> kinds_;
  Count total_;
};

/// Bytes counted as long as this lives; moves, does not copy. The ledger must outlive it.
class Held {
 public:
  Held() = default;
  Held(Ledger& ledger, MemoryKind kind, uint64_t bytes) : ledger_(&ledger), kind_(kind), bytes_(bytes) {
    ledger.add(kind, bytes);
  }
  ~Held() { reset(); }
  Held(Held&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)), kind_(other.kind_), bytes_(other.bytes_) {}
  Held& operator=(Held&& other) noexcept {
    reset();
    ledger_ = std::exchange(other.ledger_, nullptr);
    kind_ = other.kind_;
    bytes_ = other.bytes_;
    return *this;
  }
  uint64_t bytes() const { return ledger_ ? bytes_ : 0; }
  void reset() noexcept {
    if (ledger_ != nullptr) std::exchange(ledger_, nullptr)->release(kind_, bytes_);
  }

 private:
  Ledger* ledger_ = nullptr;
  MemoryKind kind_ = MemoryKind::scratch;
  uint64_t bytes_ = 0;
};

}  // namespace kinora
