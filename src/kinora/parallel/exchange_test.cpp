// Each exchange against what it would be with all parts in one place, with gradients, and what it sends.
#include "kinora/parallel/exchange.h"

#include <gtest/gtest.h>

#include "kinora/comm/counts.h"
#include "kinora/comm/threads.h"
#include "kinora/comm/traffic.h"
#include "kinora/tensor/test_values.h"

namespace kinora::parallel {
namespace {

constexpr int kRanks[] = {1, 2, 3, 4, 5, 8};

/// Rank `rank`'s part of a dimension.
Tensor part_of(const Tensor& whole, int64_t dim, const std::vector<int64_t>& counts, int rank) {
  const auto r = static_cast<size_t>(rank);
  return whole.narrow(dim, comm::offsets(counts)[r], counts[r]);
}

Tensor leaf(const Tensor& t) { return t.detach().clone().requires_grad_(true); }

TEST(Switch, CutsOneDimensionAndJoinsAnother) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const Tensor a = normal({2, 3, 7, 5}, 1).to(dtype), b = normal({2, 3, 7, 5}, 2).to(dtype);
    for (const int n : kRanks) {
      comm::run_ranks(n, [&](Communicator& group) {
        const Switch which{
            .cut = 1, .join = 2, .cut_counts = comm::even_counts(3, n), .join_counts = comm::even_counts(7, n)};
        const int rank = group.rank();
        const std::vector<Tensor> parts{part_of(a, 2, which.join_counts, rank), part_of(b, 2, which.join_counts, rank)};
        const auto there = switch_dims(parts, which, group, "there");
        EXPECT_TRUE(there[0].equal(part_of(a, 1, which.cut_counts, rank)));
        EXPECT_TRUE(there[1].equal(part_of(b, 1, which.cut_counts, rank)));
        const auto back = switch_dims(there, which.back(), group, "back");
        EXPECT_TRUE(back[0].equal(parts[0]) && back[1].equal(parts[1]));
      });
    }
  }
}

TEST(Switch, TakesTensorsThatAreNotContiguous) {
  const Tensor a = normal({7, 5, 3}, 1).permute({2, 0, 1});
  comm::run_ranks(3, [&](Communicator& group) {
    const Switch which{.cut = 2, .join = 0, .cut_counts = {2, 2, 1}, .join_counts = {1, 1, 1}};
    const Tensor there = switch_dims({part_of(a, 0, which.join_counts, group.rank())}, which, group, "there")[0];
    EXPECT_TRUE(there.equal(part_of(a, 2, which.cut_counts, group.rank())));
    EXPECT_TRUE(there.permute({1, 2, 0}).is_contiguous()) << "memory keeps its order";
  });
}

TEST(Gather, AndScatterSumAreEachOthersTranspose) {
  const Tensor whole = normal({2, 5, 3}, 3);
  for (const int n : kRanks) {
    for (const int64_t dim : {0, 1, 2}) {
      const std::vector<int64_t> counts = comm::even_counts(whole.size(dim), n);
      comm::run_ranks(n, [&](Communicator& group) {
        const int rank = group.rank();
        EXPECT_TRUE(gather(part_of(whole, dim, counts, rank), dim, counts, group, "rows").equal(whole));
        const Tensor partial = whole * (rank + 1), sum = whole * (n * (n + 1) / 2);
        const Tensor own = scatter_sum(partial, dim, counts, group, "sum of rows");
        EXPECT_TRUE(at::allclose(own, part_of(sum, dim, counts, rank), 1e-14, 1e-14));
        EXPECT_TRUE(at::allclose(parallel::sum(partial, group, "sum"), sum, 1e-14, 1e-14));
      });
    }
  }
}

/// The loss of one process, of which every rank takes its part: gradients of parts are cut from the whole's.
TEST(Exchanges, HaveTheGradientsOfOneProcess) {
  const Tensor whole = normal({2, 3, 7, 4}, 5), weight = normal({2, 3, 7, 4}, 6);
  for (const int n : kRanks) {
    const std::vector<int64_t> cut = comm::even_counts(3, n), join = comm::even_counts(7, n);
    const Tensor one = leaf(whole);
    (one.sin() * weight).sum().backward();
    comm::run_ranks(n, [&](Communicator& group) {
      at::AutoGradMode grad(true);
      const int rank = group.rank();
      const Tensor mine = leaf(part_of(whole, 2, join, rank));
      const Tensor there = switch_dims({mine}, {1, 2, cut, join}, group, "there")[0];
      (there.sin() * part_of(weight, 1, cut, rank)).sum().backward();
      EXPECT_TRUE(at::allclose(mine.grad(), part_of(one.grad(), 2, join, rank), 1e-13, 1e-13));

      const Tensor gathered = leaf(part_of(whole, 2, join, rank));
      // Every rank has all rows and counts a share of the loss.
      (gather(gathered, 2, join, group, "rows").sin() * weight / n).sum().backward();
      EXPECT_TRUE(at::allclose(gathered.grad(), part_of(one.grad(), 2, join, rank), 1e-13, 1e-13));

      const Tensor partial = leaf(whole / n);
      (scatter_sum(partial, 2, join, group, "scatter").sin() * part_of(weight, 2, join, rank)).sum().backward();
      EXPECT_TRUE(at::allclose(partial.grad(), one.grad(), 1e-13, 1e-13));

      const Tensor summed = leaf(whole / n);
      (sum(summed, group, "sum").sin() * weight / n).sum().backward();
      EXPECT_TRUE(at::allclose(summed.grad(), one.grad(), 1e-13, 1e-13));
    });
  }
}

/// Ranks that use different parts of what came all take part in its way back.
TEST(Exchanges, GoBackThoughARankUsedOnlySomeOfWhatItGot) {
  const Tensor whole = normal({4, 6}, 5);
  const std::vector<int64_t> cut{2, 2}, join{3, 3};
  std::vector<Tensor> gradients(6);  // of three tensors on two ranks
  comm::run_ranks(2, [&](Communicator& group) {
    at::AutoGradMode grad(true);
    const int rank = group.rank();
    std::vector<Tensor> mine;
    for (int i = 0; i < 3; ++i) mine.push_back(leaf(part_of(whole, 1, join, rank)));
    const std::vector<Tensor> there = switch_dims(mine, {0, 1, cut, join}, group, "there");
    there[static_cast<size_t>(rank)].sum().backward();  // the last of the three is nobody's
    for (size_t i = 0; i < 3; ++i) gradients[i * 2 + static_cast<size_t>(rank)] = mine[i].grad();
  });
  for (size_t i = 0; i < 3; ++i) {
    const Tensor got = at::cat({gradients[i * 2], gradients[i * 2 + 1]}, 1), want = at::zeros_like(whole);
    if (i < 2) want.narrow(0, static_cast<int64_t>(i) * 2, 2).fill_(1);
    EXPECT_TRUE(got.equal(want)) << i;
  }
}

TEST(Exchanges, AreCountedUnderTheirNamesForwardAndBackward) {
  comm::run_ranks(2, [&](Communicator& world) {
    at::AutoGradMode grad(true);
    comm::Traffic traffic;
    comm::Counted group(world, traffic);
    const int64_t own = 4 - group.rank();
    const Tensor mine = at::ones({own, 3}, at::kFloat).requires_grad_(true);
    gather(mine, 0, {4, 3}, group, "rows").sum().backward();
    EXPECT_EQ(traffic.of("rows", "all_gather"), (comm::Sent{1, own * 3 * 4}));
    EXPECT_EQ(traffic.of("rows backward", "reduce_scatter"), (comm::Sent{1, (7 - own) * 3 * 4}));
  });
}

TEST(Exchanges, OfOneRankGiveBackWhatTheyGot) {
  comm::run_ranks(1, [&](Communicator& group) {
    const Tensor x = at::rand({2, 3});
    EXPECT_TRUE(gather(x, 0, {2}, group, "rows").is_same(x));
    EXPECT_TRUE(scatter_sum(x, 0, {2}, group, "rows").is_same(x));
    EXPECT_TRUE(sum(x, group, "rows").is_same(x));
    EXPECT_TRUE(switch_dims({x}, {0, 1, {2}, {3}}, group, "rows")[0].is_same(x));
  });
}

TEST(Exchanges, TellShapesAndStridesOnMetaTensors) {
  comm::run_ranks(2, [&](Communicator& group) {
    const auto on_meta = [](const Tensor& t) {
      return at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kMeta));
    };
    const Tensor x = at::rand({3, 2, 5}).transpose(0, 1);  // [2, 3, 5]
    const auto same = [&](const auto& f) {
      const Tensor real = f(x), twin = f(on_meta(x));
      EXPECT_EQ(twin.sizes(), real.sizes());
      EXPECT_EQ(twin.strides(), real.strides());
    };
    const std::vector<int64_t> fives{3, 2}, twos{1, 1};
    same([&](const Tensor& t) { return gather(t, 0, {2, 2}, group, "rows"); });
    same([&](const Tensor& t) { return scatter_sum(t, 2, fives, group, "rows"); });
    same([&](const Tensor& t) { return sum(t, group, "rows"); });
    same([&](const Tensor& t) { return switch_dims({t}, {2, 0, fives, {2, 2}}, group, "rows")[0]; });
  });
}

}  // namespace
}  // namespace kinora::parallel
