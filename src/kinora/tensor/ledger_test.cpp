#include "kinora/tensor/ledger.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <thread>
#include <vector>

#include "kinora/tensor/test_ledger.h"

namespace kinora {
namespace {

TEST(Ledger, CountsEachKindAndTheHighestSumAtOneTime) {
  Ledger ledger;
  ledger.add(MemoryKind::weights, 100);
  ledger.add(MemoryKind::activations, 50);
  ledger.release(MemoryKind::activations, 50);
  ledger.add(MemoryKind::scratch, 30);
  EXPECT_EQ(ledger.current(MemoryKind::weights), 100U);
  EXPECT_EQ(ledger.current(MemoryKind::activations), 0U);
  EXPECT_EQ(ledger.peak(MemoryKind::activations), 50U);
  EXPECT_EQ(ledger.current_total(), 130U);
  EXPECT_EQ(ledger.peak_total(), 150U);
  ledger.reset_peaks();
  EXPECT_EQ(ledger.peak_total(), 130U);
  EXPECT_EQ(ledger.peak(MemoryKind::activations), 0U);
  EXPECT_EQ(ledger.summary(), "weights 100 B (peak 100 B), scratch 30 B (peak 30 B), together 130 B (peak 130 B)");
}

TEST(Ledger, MovedBytesKeepTheTotal) {
  Ledger ledger;
  ledger.add(MemoryKind::activations, 7);
  ledger.move(MemoryKind::activations, MemoryKind::caches, 7);
  EXPECT_EQ(ledger.current(MemoryKind::activations), 0U);
  EXPECT_EQ(ledger.current(MemoryKind::caches), 7U);
  EXPECT_EQ(ledger.peak(MemoryKind::caches), 7U);
  EXPECT_EQ(ledger.current_total(), 7U);
  EXPECT_EQ(ledger.peak_total(), 7U);
}

TEST(Ledger, HeldBytesGoWithTheirOwner) {
  Ledger ledger;
  {
    Held a(ledger, MemoryKind::mapped, 5);
    Held b = std::move(a);
    EXPECT_EQ(ledger.current_total(), 5U);
    EXPECT_EQ(a.bytes(), 0U);
    EXPECT_EQ(b.bytes(), 5U);
    b = Held(ledger, MemoryKind::caches, 3);
    EXPECT_EQ(ledger.current_total(), 3U);
    b.reset();
    b.reset();
    EXPECT_EQ(ledger.current_total(), 0U);
    b = Held(ledger, MemoryKind::weights, 1);
  }
  EXPECT_EQ(ledger.current_total(), 0U);
  EXPECT_EQ(ledger.peak(MemoryKind::mapped), 5U);
}

TEST(Ledger, ThreadsLoseNothing) {
  Ledger ledger;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 10'000; ++i) {
          const Held held(ledger, MemoryKind::scratch, 3);
          ledger.add(MemoryKind::weights, 1);
        }
      });
    }
  }
  EXPECT_EQ(ledger.current(MemoryKind::weights), 40'000U);
  EXPECT_EQ(ledger.current(MemoryKind::scratch), 0U);
  EXPECT_EQ(ledger.current_total(), 40'000U);
  EXPECT_GE(ledger.peak_total(), 40'000U);
  EXPECT_LE(ledger.peak_total(), 40'012U);
}

TEST(Ledger, ExplainsTheResidentPeakWithin5Percent) {
  if (!reset_peak_resident()) GTEST_SKIP() << "the peak cannot be reset here";
  const uint64_t baseline = resident_bytes();
  Ledger ledger;
  struct Block {
    Held held;
    void* data;
    size_t bytes;
  };
  std::vector<Block> blocks;
  const auto take = [&](MemoryKind kind, size_t bytes) {
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(data, MAP_FAILED);
    std::memset(data, 1, bytes);
    blocks.push_back({Held(ledger, kind, bytes), data, bytes});
  };
  const auto drop = [&] {
    ::munmap(blocks.back().data, blocks.back().bytes);
    blocks.pop_back();
  };
  take(MemoryKind::weights, 100 << 20);
  for (int i = 0; i < 5; ++i) take(MemoryKind::activations, 37 << 20);
  drop();
  drop();
  take(MemoryKind::caches, 21 << 20);
  const double share = explained_share(ledger, baseline);
  EXPECT_GT(share, 0.95);
  EXPECT_LT(share, 1.05);
  while (!blocks.empty()) drop();
  EXPECT_EQ(ledger.current_total(), 0U);
  EXPECT_EQ(ledger.peak_total(), uint64_t{285} << 20);
}

}  // namespace
}  // namespace kinora
