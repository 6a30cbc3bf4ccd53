#include "kinora/tensor/block_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "kinora/base/memory.h"

namespace kinora {
namespace {

constexpr size_t kMega = size_t{1} << 20;

TEST(BlockPool, GivesWhatWasGivenBack) {
  BlockPool pool;
  void* const first = pool.take(3 * kMega + 5);
  std::memset(first, 1, 3 * kMega + 5);
  pool.give(first, 3 * kMega + 5);
  EXPECT_EQ(pool.taken(), 0U);
  EXPECT_EQ(pool.held(), 3 * kMega + 4096);
  EXPECT_EQ(pool.take(3 * kMega), first);
  pool.give(first, 3 * kMega);
}

TEST(BlockPool, PiecesOfABlockGrowTogetherAgain) {
  BlockPool pool;
  void* const whole = pool.take(8 * kMega);
  pool.give(whole, 8 * kMega);
  std::vector<void*> parts;
  for (int i = 0; i < 4; ++i) parts.push_back(pool.take(2 * kMega));
  EXPECT_EQ(pool.held(), 8 * kMega);
  for (const int i : {2, 0, 3, 1}) pool.give(parts[static_cast<size_t>(i)], 2 * kMega);
  EXPECT_EQ(pool.take(8 * kMega), whole);
  pool.give(whole, 8 * kMega);
}

TEST(BlockPool, HoldsNeverMoreThanWasTakenAtOnce) {
  BlockPool pool(1000 * kMega);
  std::mt19937 random(7);
  std::vector<std::pair<void*, size_t>> blocks;
  size_t most = 0;
  for (int i = 0; i < 3000; ++i) {
    if (blocks.size() < 12 && random() % 2 == 0) {
      const size_t bytes = 1 + random() % (9 * kMega);
      void* const block = pool.take(bytes);
      ASSERT_NE(block, nullptr);
      static_cast<char*>(block)[bytes - 1] = 1;
      blocks.emplace_back(block, bytes);
    } else if (!blocks.empty()) {
      const size_t chosen = random() % blocks.size();
      pool.give(blocks[chosen].first, blocks[chosen].second);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
    most = std::max(most, pool.taken());
    ASSERT_LE(pool.held(), most) << i;
  }
  for (const auto& [block, bytes] : blocks) pool.give(block, bytes);
  EXPECT_EQ(pool.taken(), 0U);
}

TEST(BlockPool, BlocksDoNotOverlap) {
  BlockPool pool;
  std::mt19937 random(3);
  std::vector<std::pair<unsigned char*, size_t>> blocks(10);
  for (int i = 0; i < 400; ++i) {
    auto& [block, bytes] = blocks[random() % blocks.size()];
    const auto mark = static_cast<unsigned char>(&block - &blocks[0].first);
    if (block != nullptr) {
      for (size_t at = 0; at < bytes; at += 1000) ASSERT_EQ(block[at], mark);
      pool.give(block, bytes);
    }
    bytes = 1 + random() % (2 * kMega);
    block = static_cast<unsigned char*>(pool.take(bytes));
    std::memset(block, mark, bytes);
  }
}

TEST(BlockPool, ReturnsWhatIsOverItsLimit) {
  const uint64_t before = resident_bytes();
  BlockPool pool(4 * kMega);
  void* const block = pool.take(64 * kMega);
  std::memset(block, 1, 64 * kMega);
  EXPECT_GT(resident_bytes(), before + 60 * kMega);
  pool.give(block, 64 * kMega);
  EXPECT_LE(pool.held(), 4 * kMega);
  EXPECT_LT(resident_bytes(), before + 20 * kMega);
}

TEST(BlockPool, ThreadsShareIt) {
  BlockPool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      for (size_t i = 1; i < 200; ++i) {
        auto* const block = static_cast<char*>(pool.take(i * 5000));
        std::memset(block, t, i * 5000);
        for (size_t at = 0; at < i * 5000; at += 4096) ASSERT_EQ(block[at], t);
        pool.give(block, i * 5000);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool.taken(), 0U);
}

TEST(BlockPool, WhatTheSystemDoesNotHaveIsNull) {
  BlockPool pool;
  EXPECT_EQ(pool.take(size_t{1} << 60), nullptr);
  EXPECT_EQ(pool.taken(), 0U);
}

}  // namespace
}  // namespace kinora
