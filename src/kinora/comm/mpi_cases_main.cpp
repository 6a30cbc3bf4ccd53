// The same collectives as over threads, over MPI: mpirun -n 3 kinora_comm_mpi_cases
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "kinora/base/error.h"
#include "kinora/comm/agree.h"
#include "kinora/comm/collective_cases.h"
#include "kinora/comm/mpi.h"

namespace {

using namespace kinora;
using namespace kinora::comm;

World* world = nullptr;  // tests have no arguments

TEST(Mpi, CollectivesEqualNaiveLoops) { expect_collectives(world->all()); }

TEST(Mpi, LongMessagesArriveWhole) {
  // Beyond every size at which Open MPI changes its way, and uneven.
  Communicator& group = world->all();
  const at::Tensor values = at::arange(3'000'017, at::kFloat) * (group.rank() + 1);
  group.all_reduce(values, "long")->wait();
  const int n = group.size();
  EXPECT_EQ(values[0].item<float>(), 0.0F);
  EXPECT_EQ(values[1].item<float>(), static_cast<float>(n * (n + 1) / 2));
  EXPECT_EQ(values[3'000'016].item<float>(), [&] {
    float total = 0;
    for (int r = 0; r < n; ++r) total += 3'000'016.0F * static_cast<float>(r + 1);
    return total;
  }());
}

TEST(Mpi, WhatDiffersIsShownOnEveryRank) {
  Communicator& group = world->all();
  if (group.size() == 1) return;
  EXPECT_THROW(agree(group, "a text", group.rank() == 1 ? "b" : "a"), PeerError);
  group.barrier("still in step");
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto place = find_place([](const char* name) { return std::getenv(name); });
  if (!place) {
    std::cerr << "start this with mpirun\n";
    return 2;
  }
  const auto joined = join(*place, {.version = "test", .deadline = std::chrono::seconds(30)});
  world = joined.get();
  GTEST_FLAG_SET(brief, place->rank != 0);  // of the others only failures
  if (RUN_ALL_TESTS() != 0) joined->end_all({.what = "a test failed", .exit_code = 1});
  joined->finish();
  return 0;
}
