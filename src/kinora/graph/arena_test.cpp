#include "kinora/graph/arena.h"

#include <gtest/gtest.h>

#include <random>

#include "kinora/graph/chunked.h"
#include "kinora/graph/plan.h"
#include "kinora/graph/test_graphs.h"
#include "kinora/tensor/allocator.h"

namespace kinora::graph {
namespace {

using Tensors = std::vector<Tensor>;

class Arenas : public testing::Test {
 protected:
  Arenas() {
    static Ledger shared;
    ledger = &shared;
    install_counting_allocator(shared);
    install_arena_allocator();
  }
  Ledger* ledger = nullptr;
  at::NoGradGuard no_grad;
};

TEST_F(Arenas, PlacesNeverOverlapInTime) {
  std::mt19937 rng(5);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<Interval> intervals;
    for (int i = 0; i < 30; ++i) {
      const int begin = static_cast<int>(rng() % 50);
      intervals.push_back({static_cast<int64_t>(rng() % 5000) + 1, begin, begin + 1 + static_cast<int>(rng() % 20)});
    }
    const Offsets o = place(intervals);
    EXPECT_GE(o.bytes, o.bound);
    EXPECT_LE(static_cast<double>(o.bytes), 1.35 * static_cast<double>(o.bound));
    for (size_t a = 0; a < intervals.size(); ++a) {
      EXPECT_EQ(o.at[a] % 64, 0);
      EXPECT_LE(o.at[a] + intervals[a].bytes, o.bytes);
      for (size_t b = 0; b < a; ++b) {
        const bool in_time = intervals[a].begin < intervals[b].end && intervals[b].begin < intervals[a].end;
        const bool in_space = o.at[a] < o.at[b] + intervals[b].bytes && o.at[b] < o.at[a] + intervals[a].bytes;
        EXPECT_FALSE(in_time && in_space);
      }
    }
  }
}

TEST_F(Arenas, WarmRunsAllocateNothingAndGiveTheSameBits) {
  for (const TestGraph& test : test_graphs()) {
    const Graph graph = test.capture();
    const Chunked chunked(graph,
                          plan(graph, {.budget = least_budget(graph, {.align_rows = 4}), .align_rows = 4}).regions);
    const Tensors want = chunked(test.inputs);
    Arena arena(std::make_shared<ArenaMemory>());
    for (int run = 0; run < 5; ++run) {
      Tensors got;
      const uint64_t before = ledger->current_total();
      ledger->reset_peaks();
      arena.run([&] { got = chunked(test.inputs); });
      for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(got[i].equal(want[i])) << test.name;
      if (run < 2) continue;  // the second run makes the buffer
      EXPECT_EQ(arena.counts().outside, 0) << test.name;
      EXPECT_GT(arena.counts().served, graph.size() / 4);
      EXPECT_EQ(ledger->current_total(), before) << test.name;
      EXPECT_LE(ledger->peak_total(), before + 500) << test.name;  // the comparison's own results
    }
    EXPECT_LE(static_cast<double>(arena.counts().bytes), 1.05 * static_cast<double>(arena.counts().bound)) << test.name;
  }
}

TEST_F(Arenas, ARunThatDiffersIsServedByTheSystem) {
  Arena arena(std::make_shared<ArenaMemory>());
  Tensor held;
  const auto f = [&](int64_t rows, bool holds) {
    const Tensor a = at::ones({rows, 100}), b = a * 2;
    if (holds) held = b;
    const Tensor c = (b + 1).exp();
    EXPECT_TRUE(c.equal(at::full({rows, 100}, 3.0).exp()));
  };
  for (int run = 0; run < 3; ++run) arena.run([&] { f(8, false); });
  EXPECT_EQ(arena.counts().outside, 0);
  arena.run([&] { f(9, false); });
  EXPECT_GT(arena.counts().outside, 0);
  arena.run([&] { f(8, true); });  // b stays where the arena has it, and later runs go round it
  for (int run = 0; run < 3; ++run) {
    arena.run([&] { f(8, false); });
    EXPECT_TRUE(held.equal(at::full({8, 100}, 2.0)));
    EXPECT_GT(arena.counts().outside, 0);
  }
  held.reset();
  arena.run([&] { f(8, false); });
  EXPECT_EQ(arena.counts().outside, 0);
}

}  // namespace
}  // namespace kinora::graph
