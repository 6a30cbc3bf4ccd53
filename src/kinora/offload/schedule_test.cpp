#include "kinora/offload/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kinora/base/error.h"

namespace kinora::offload {
namespace {

constexpr double kGB = 1e9;

double pace(const Streaming& plan) { return seconds_per_step(plan, virtual_time(streaming(plan))); }

TEST(VirtualTime, ResourcesWorkSideBySideAndWaitForWhatTheyNeed) {
  const Schedule schedule{{Resource::link, 2},
                          {Resource::device, 3, {0}},
                          {Resource::link, 2},
                          {Resource::cpu, 10},
                          {Resource::device, 3, {1, 2}}};
  const Timeline t = virtual_time(schedule);
  EXPECT_EQ(t.begin, (std::vector<double>{0, 2, 2, 0, 5}));
  EXPECT_EQ(t.end, (std::vector<double>{2, 5, 4, 10, 8}));
  EXPECT_EQ(t.busy, (std::array<double, kNumResources>{6, 4, 10, 0}));
  EXPECT_EQ(t.total, 10);
}

TEST(VirtualTime, WhatCannotRunIsRefused) {
  EXPECT_THROW(virtual_time({{Resource::cpu, 1, {0}}}), UsageError);
  EXPECT_THROW(virtual_time({{Resource::cpu, 1, {-1}}}), UsageError);
  EXPECT_THROW(virtual_time({{Resource::cpu, -1}}), UsageError);
  EXPECT_THROW(virtual_time({{Resource::cpu, std::nan("")}}), UsageError);
}

// 40 blocks of 0.7 GB over 25 GB/s, 8 ms of computation each, 20 of them resident: the link is the bound.
Streaming twenty_of_forty(std::vector<bool> resident, int ring) {
  return {
      .resident = std::move(resident), .copy_seconds = 0.7 / 25, .compute_seconds = 0.008, .ring = ring, .steps = 4};
}

TEST(Streaming, EvenResidentsMeetTheBoundAndOthersDoNot) {
  const StepBound bound{
      .compute_seconds = 40 * 0.008, .bytes = 28 * kGB, .resident_bytes = 14 * kGB, .link_rate = 25 * kGB};
  EXPECT_NEAR(bound.seconds(), 0.560, 1e-9);
  EXPECT_NEAR(pace(twenty_of_forty(spread_evenly(40, 20), 2)), 0.560, 1e-9);
  EXPECT_NEAR(pace(twenty_of_forty(spread_evenly(40, 20), 1)), 0.720, 1e-9);
  EXPECT_NEAR(pace(twenty_of_forty(first_of(40, 20), 2)), 0.680, 1e-9);
  EXPECT_NEAR(pace(twenty_of_forty(spread_evenly(40, 20), 0)), 0.880, 1e-9);
}

TEST(Streaming, ComputationHidesTheLinkOnceItIsLonger) {
  for (const auto& resident : {spread_evenly(40, 20), first_of(40, 20), spread_evenly(40, 0)}) {
    const Streaming plan{.resident = resident, .copy_seconds = 0.028, .compute_seconds = 0.028, .ring = 2, .steps = 3};
    EXPECT_NEAR(pace(plan), 40 * 0.028, 1e-9);
  }
}

TEST(Streaming, NoPlanIsShorterThanItsBound) {
  for (const int count : {0, 1, 7, 13, 40}) {
    for (const double compute : {0.003, 0.02, 0.05}) {
      for (const int ring : {1, 2, 3}) {
        const Streaming plan{.resident = spread_evenly(40, count),
                             .copy_seconds = 0.02,
                             .compute_seconds = compute,
                             .ring = ring,
                             .steps = 3};
        const StepBound bound{
            .compute_seconds = 40 * compute, .bytes = 40, .resident_bytes = double(count), .link_rate = 50};
        EXPECT_GE(pace(plan), bound.seconds() - 1e-9) << count << " " << compute << " " << ring;
      }
    }
  }
  EXPECT_THROW(seconds_per_step({.steps = 1}, {}), UsageError);
}

TEST(Streaming, TheDiskBoundsWhatIsInNoMemory) {
  const StepBound bound{
      .compute_seconds = 1, .bytes = 60, .resident_bytes = 20, .host_bytes = 30, .link_rate = 20, .disk_rate = 2};
  EXPECT_DOUBLE_EQ(bound.seconds(), 5);
}

TEST(Spread, AnyCountIsSpreadWithNeighboursAtMostOneApart) {
  for (int blocks = 0; blocks < 30; ++blocks) {
    for (int count = 0; count <= blocks; ++count) {
      const auto resident = spread_evenly(blocks, count);
      ASSERT_EQ(std::count(resident.begin(), resident.end(), true), count);
      std::vector<int> gaps;
      int last = -1;
      for (int b = 0; b < blocks; ++b) {
        if (!resident[size_t(b)]) continue;
        if (last >= 0) gaps.push_back(b - last);
        last = b;
      }
      if (gaps.empty()) continue;
      const auto [least, most] = std::minmax_element(gaps.begin(), gaps.end());
      EXPECT_LE(*most - *least, 1) << count << " of " << blocks;
    }
  }
  EXPECT_THROW(spread_evenly(3, 4), UsageError);
  EXPECT_THROW(spread_evenly(3, -1), UsageError);
}

// OPT-30B's linear layers in half precision, 48 of them as one layer each: stream only, CPU only, split.
TEST(Split, VirtualTimeEqualsTheAddRatesLaw) {
  struct Case {
    double cpu, link, stream_only, cpu_only, plain, bound;
  };
  for (const Case& c : {Case{30, 12, 5.04, 2.04, 1.459, 1.454}, Case{30, 25, 2.42, 2.04, 1.119, 1.110},
                        Case{60, 25, 2.42, 1.03, 0.731, 0.725}}) {
    const SplitRates rates{
        .bytes = 60.5 * kGB / 48, .cpu_rate = c.cpu * kGB, .link_rate = c.link * kGB, .other_seconds = 0.0004};
    const auto total = [&](double alpha, int ring) { return virtual_time(split_layers(rates, alpha, 48, ring)).total; };
    EXPECT_NEAR(total(0, 2), c.stream_only, 0.005);
    EXPECT_NEAR(total(1, 2), c.cpu_only, 0.005);
    EXPECT_NEAR(total(split_share(rates, false), 2), c.plain, 0.001);
    EXPECT_NEAR(48 * split_seconds(rates), c.bound, 0.001);
    EXPECT_NEAR(total(split_share(rates, true), 2), 48 * split_seconds(rates), 0.001);
    EXPECT_GT(total(split_share(rates, true), 1), total(split_share(rates, true), 2));  // nothing works ahead
  }
}

TEST(Split, SharesFollowTheRates) {
  const SplitRates even{.bytes = 1, .cpu_rate = 2, .link_rate = 2};
  EXPECT_DOUBLE_EQ(split_share(even, false), 0.5);
  EXPECT_DOUBLE_EQ(split_share(even, true), 0.5);
  EXPECT_DOUBLE_EQ(split_seconds(even), 0.25);
  SplitRates slow_device = even;
  slow_device.device_rate = 2;
  EXPECT_DOUBLE_EQ(split_share(slow_device, false), 2.0 / 3);
  SplitRates busy = even;
  busy.other_seconds = 10;  // the link carries everything while the device is busy
  EXPECT_DOUBLE_EQ(split_share(busy, true), 0);
  EXPECT_DOUBLE_EQ(split_seconds(busy), 10);
}

}  // namespace
}  // namespace kinora::offload
