#include "kinora/comm/exchange.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/comm/collective_cases.h"
#include "kinora/comm/single.h"
#include "kinora/comm/threads.h"

namespace kinora::comm {
namespace {

TEST(Exchange, OneProcessIsTheIdentity) { expect_collectives(*single()); }

TEST(Exchange, CollectivesEqualNaiveLoopsForEveryNumberOfRanks) {
  for (const int ranks : {1, 2, 3, 5}) run_ranks(ranks, expect_collectives);
}

TEST(Exchange, LongMessagesGoInPieces) {
  for (const size_t most : {7, 256}) run_ranks(3, expect_exchanges, {.largest_message = most});
}

TEST(Exchange, ComparingOnlyAtFirstGivesTheSame) { run_ranks(3, expect_collectives, {.check = Check::first}); }

TEST(Exchange, BuffersThatDoNotFitAreRefused) {
  const auto refused = [](Communicator& g) {
    const Tensor x = at::zeros({6}), y = at::zeros({6});
    const std::vector<int64_t> even(static_cast<size_t>(g.size()), 6 / g.size()), short_by_one(even.size() + 1, 1);
    std::vector<int64_t> negative = even;
    negative[0] = -1;
    EXPECT_THROW(g.all_to_all(x, y, even, short_by_one, "x"), UsageError);
    EXPECT_THROW(g.all_to_all(x, y, even, negative, "x"), UsageError);
    EXPECT_THROW(g.all_to_all(x, at::zeros({7}), even, even, "x"), UsageError);
    EXPECT_THROW(g.all_to_all(x, at::zeros({6}, at::kDouble), even, even, "x"), UsageError);
    EXPECT_THROW(g.all_to_all(at::zeros({6, 2}).select(1, 0), y, even, even, "x"), UsageError);
    EXPECT_THROW(g.all_to_all(at::Tensor(), y, even, even, "x"), UsageError);
    EXPECT_THROW(g.all_gather(x, at::zeros({7}), even, "x"), UsageError);
    EXPECT_THROW(g.reduce_scatter(at::zeros({7}), y, even, "x"), UsageError);
    EXPECT_THROW(g.all_reduce(at::zeros({2}, at::kBool), "x"), UsageError);
    EXPECT_THROW(g.broadcast(x, g.size(), "x"), UsageError);
    EXPECT_THROW(g.broadcast(x, -1, "x"), UsageError);
    EXPECT_THROW(g.send(x, g.rank(), "x"), UsageError);
    EXPECT_THROW(g.recv(x, g.size(), "x"), UsageError);
  };
  refused(*single());
  run_ranks(2, refused);
}

TEST(Exchange, SumsWithoutOrderWouldBeCaught) {
  std::vector<Tensor> parts{at::full({1}, 1e8F), at::full({1}, -1e8F), at::full({1}, 1.0F)};
  const Tensor in_order = at::empty({1}), other = at::empty({1});
  add_in_order(in_order, {parts[0].clone(), parts[1].clone(), parts[2].clone()}, 2);
  add_in_order(other, {parts[2].clone(), parts[0].clone(), parts[1].clone()}, 2);
  EXPECT_EQ(in_order.item<float>(), 1.0F);
  EXPECT_NE(other.item<float>(), 1.0F);
}

TEST(Exchange, HalfPrecisionIsRoundedOnce) {
  const Tensor out = at::empty({1}, at::kBFloat16);
  std::vector<Tensor> parts(8, at::full({1}, 1.0 / 256, at::kBFloat16));
  parts[0] = at::full({1}, 1.0, at::kBFloat16);
  add_in_order(out, parts, 3);
  EXPECT_EQ(out.item<float>(), 1.03125F) << "1 + 7 / 256, rounded; each alone is lost beside 1";
}

TEST(Exchange, HalfPrecisionPassesItsLimitOnTheWay) {
  run_ranks(4, [](Communicator& group) {  // 60000 + 60000 is beyond float16's 65504
    const Tensor values = at::full({5}, group.rank() < 2 ? 60000.0 : -30000.0, at::kHalf);
    group.all_reduce(values, "gradients")->wait();
    EXPECT_TRUE(values.equal(at::full({5}, 60000.0, at::kHalf))) << values;
  });
}

}  // namespace
}  // namespace kinora::comm
