#include "kinora/comm/place.h"

#include <gtest/gtest.h>

#include <map>

#include "kinora/base/error.h"

namespace kinora::comm {
namespace {

Variables given(std::map<std::string, std::string> values) {
  auto shared = std::make_shared<std::map<std::string, std::string>>(std::move(values));
  return [shared](const char* name) {
    const auto found = shared->find(name);
    return found == shared->end() ? nullptr : found->second.c_str();
  };
}

TEST(Place, EachStarterIsRead) {
  const auto by_mpi = find_place(given({{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}}));
  ASSERT_TRUE(by_mpi);
  EXPECT_EQ(by_mpi->rank, 2);
  EXPECT_EQ(by_mpi->size, 4);
  EXPECT_EQ(by_mpi->starter, "mpirun");
  EXPECT_EQ(find_place(given({{"TORCHELASTIC_RUN_ID", "x"}, {"RANK", "0"}, {"WORLD_SIZE", "2"}}))->starter, "torchrun");
  EXPECT_EQ(find_place(given({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}))->rank, 1);
}

TEST(Place, AProcessAloneIsNoRank) {
  EXPECT_FALSE(find_place(given({})));
  EXPECT_FALSE(find_place(given({{"RANK", "0"}, {"WORLD_SIZE", "2"}}))) << "anybody's variables";
  EXPECT_FALSE(find_place(given({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}))) << "a batch script";
}

TEST(Place, WhatCannotBeIsRefused) {
  EXPECT_THROW(find_place(given({{"OMPI_COMM_WORLD_RANK", "2"}})), UsageError);
  EXPECT_THROW(find_place(given({{"OMPI_COMM_WORLD_RANK", "4"}, {"OMPI_COMM_WORLD_SIZE", "4"}})), UsageError);
  EXPECT_THROW(find_place(given({{"OMPI_COMM_WORLD_RANK", "-1"}, {"OMPI_COMM_WORLD_SIZE", "4"}})), UsageError);
  EXPECT_THROW(find_place(given({{"OMPI_COMM_WORLD_RANK", "1x"}, {"OMPI_COMM_WORLD_SIZE", "4"}})), UsageError);
}

TEST(Place, TheDeadlineIsInSeconds) {
  using namespace std::chrono_literals;
  EXPECT_EQ(deadline_or(given({}), 7s), 7s);
  EXPECT_EQ(deadline_or(given({{"KINORA_DEADLINE", "2.5"}}), 7s), 2500ms);
  for (const char* bad : {"0", "-1", "soon", "1e9", "nan"})
    EXPECT_THROW(deadline_or(given({{"KINORA_DEADLINE", bad}}), 7s), UsageError) << bad;
}

TEST(Place, WhenToCompareCallsIsAWord) {
  EXPECT_FALSE(checks_always(given({})));
  EXPECT_FALSE(checks_always(given({{"KINORA_COMM_CHECK", "first"}})));
  EXPECT_TRUE(checks_always(given({{"KINORA_COMM_CHECK", "always"}})));
  EXPECT_THROW(checks_always(given({{"KINORA_COMM_CHECK", "1"}})), UsageError);
}

}  // namespace
}  // namespace kinora::comm
