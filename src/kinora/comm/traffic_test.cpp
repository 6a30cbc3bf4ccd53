#include "kinora/comm/traffic.h"

#include <gtest/gtest.h>

#include <mutex>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/comm/single.h"
#include "kinora/comm/threads.h"

namespace kinora::comm {
namespace {

/// Every rank's ledger after `f`.
std::vector<Traffic> counted(int ranks, const std::function<void(Communicator&)>& f) {
  std::vector<Traffic> all(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](Communicator& g) {
    Counted group(g, all[static_cast<size_t>(g.rank())]);
    f(group);
  });
  return all;
}

TEST(Traffic, BytesFollowTheFormulas) {
  for (const int n : {1, 2, 3, 5}) {
    const int64_t part = 6, bytes = 4;
    const std::vector<int64_t> even(static_cast<size_t>(n), part);
    const auto ledgers = counted(n, [&](Communicator& g) {
      const Tensor all = at::zeros({part * n}), own = at::zeros({part});
      g.all_to_all(at::empty({part * n}), all, even, even, "a")->wait();
      g.all_gather(all, own, even, "a")->wait();
      g.reduce_scatter(own, all, even, "a")->wait();
      g.all_reduce(all, "a")->wait();
      g.all_reduce(all, "a")->wait();
      g.broadcast(all, n - 1, "b")->wait();
      g.barrier("b");
    });
    for (int r = 0; r < n; ++r) {
      const Traffic& t = ledgers[static_cast<size_t>(r)];
      EXPECT_EQ(t.of("a", "all_to_all"), (Sent{1, part * (n - 1) * bytes}));
      EXPECT_EQ(t.of("a", "all_gather"), (Sent{1, part * (n - 1) * bytes}));
      EXPECT_EQ(t.of("a", "reduce_scatter"), (Sent{1, part * (n - 1) * bytes}));
      EXPECT_EQ(t.of("a", "all_reduce"), (Sent{2, 2 * 2 * (n - 1) * part * bytes}));  // 2 (N - 1) / N of each
      EXPECT_EQ(t.of("b", "broadcast"), (Sent{1, r == n - 1 ? (n - 1) * part * n * bytes : 0}));
      EXPECT_EQ(t.of("b", "barrier"), (Sent{1, 0}));
      EXPECT_EQ(t.of("c", "barrier"), Sent{});
      EXPECT_EQ(t.total().calls, 7);
    }
  }
}

TEST(Traffic, UnevenSumsAreWholeOverAllRanks) {
  for (const int n : {2, 3, 5}) {
    int64_t bytes = 0;
    for (const Traffic& t :
         counted(n, [](Communicator& g) { g.all_reduce(at::zeros({17}, at::kBFloat16), "s")->wait(); }))
      bytes += t.total().bytes;
    EXPECT_EQ(bytes, 2 * (n - 1) * 17 * 2);
  }
}

TEST(Traffic, GroupsCountInTheSameLedger) {
  const auto ledgers = counted(4, [](Communicator& g) {
    const auto half = g.split(g.rank() % 2, 0);
    half->all_reduce(at::zeros({8}), "half")->wait();
    const Tensor x = at::zeros({3});
    if (half->rank() == 0)
      half->send(x, 1, "m")->wait();
    else
      half->recv(x, 0, "m")->wait();
  });
  for (int r = 0; r < 4; ++r) {
    const Traffic& t = ledgers[static_cast<size_t>(r)];
    EXPECT_EQ(t.of("half", "all_reduce"), (Sent{1, 32}));
    EXPECT_EQ(t.of("m", "send"), (r < 2 ? Sent{1, 12} : Sent{}));
    EXPECT_EQ(t.of("m", "recv"), (r < 2 ? Sent{} : Sent{1, 0}));
    EXPECT_EQ(t.of("split", "split").calls, 1);
  }
}

TEST(Traffic, WhatIsRefusedIsNotCounted) {
  Traffic traffic;
  Counted group(single(), traffic);
  const std::vector<int64_t> two{2};
  EXPECT_THROW(group.all_gather(at::zeros({2}), at::zeros({3}), two, "x"), UsageError);
  EXPECT_EQ(traffic.total(), Sent{});
  group.all_gather(at::zeros({2}), at::zeros({2}), two, "x")->wait();
  EXPECT_EQ(traffic.total(), (Sent{1, 0}));
  traffic.clear();
  EXPECT_TRUE(traffic.rows().empty());
}

TEST(Counts, EvenPartsDifferByOneAtMost) {
  EXPECT_EQ(even_counts(17, 5), (std::vector<int64_t>{4, 4, 3, 3, 3}));
  EXPECT_EQ(even_counts(1, 3), (std::vector<int64_t>{1, 0, 0}));
  EXPECT_EQ(offsets(even_counts(17, 5)), (std::vector<int64_t>{0, 4, 8, 11, 14}));
}

}  // namespace
}  // namespace kinora::comm
