#include "kinora/comm/unconnected.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace kinora::comm {
namespace {

TEST(Unconnected, KnowsItsSizeAndExchangesNothing) {
  const auto ranks = unconnected(3);
  EXPECT_EQ(ranks->rank(), 0);
  EXPECT_EQ(ranks->size(), 3);
  const Tensor t = at::zeros({3});
  const std::vector<int64_t> ones(3, 1);
  EXPECT_THROW(ranks->all_to_all(t, t, ones, ones, "x"), std::logic_error);
  EXPECT_THROW(ranks->all_gather(t, t[0], ones, "x"), std::logic_error);
  EXPECT_THROW(ranks->reduce_scatter(t[0], t, ones, "x"), std::logic_error);
  EXPECT_THROW(ranks->all_reduce(t, "x"), std::logic_error);
  EXPECT_THROW(ranks->broadcast(t, 0, "x"), std::logic_error);
  EXPECT_THROW(ranks->send(t, 1, "x"), std::logic_error);
  EXPECT_THROW(ranks->recv(t, 1, "x"), std::logic_error);
  EXPECT_THROW(ranks->barrier("x"), std::logic_error);
  EXPECT_THROW(ranks->rendezvous("x"), std::logic_error);
  EXPECT_THROW(ranks->split(0, 0), std::logic_error);
}

}  // namespace
}  // namespace kinora::comm
