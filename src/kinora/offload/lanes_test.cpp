#include "kinora/offload/lanes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstring>
#include <stdexcept>
#include <thread>

#include "kinora/base/error.h"
#include "kinora/offload/pace_of.h"
#include "kinora/tensor/random.h"

namespace kinora::offload {
namespace {

using at::Tensor;

/// 8 blocks of a linear layer that pass through slots: what the schedule says happens on tensors.
struct Blocks {
  std::vector<Tensor> weights, slots;
  std::vector<bool> resident;
  Streaming plan;
  Tensor x = at::ones({4, 64}, at::kDouble);

  Blocks(int ring, double copy, double compute, bool has_residents) {
    at::Generator generator = cpu_generator(7);
    resident = spread_evenly(8, has_residents ? 4 : 0);
    for (int i = 0; i < 8; ++i) weights.push_back(at::randn({64, 64}, generator, at::kDouble) / 8);
    for (int i = 0; i < std::max(ring, 1); ++i) slots.push_back(at::zeros({64, 64}, at::kDouble));
    plan = {.resident = resident, .copy_seconds = copy, .compute_seconds = compute, .ring = ring};
  }

  Tensor whole() const {
    Tensor y = x;
    for (const Tensor& w : weights) y = at::gelu(at::linear(y, w));
    return y;
  }

  Timeline run(Tensor& y) const {
    const Schedule schedule = streaming(plan);
    std::vector<int> block_of, slot_of;
    int block = 0, streamed = 0;
    for (const Task& task : schedule) {
      block_of.push_back(block);
      slot_of.push_back(streamed % static_cast<int>(slots.size()));
      if (task.resource == Resource::device) streamed += !resident[static_cast<size_t>(block++)];
    }
    y = x;
    return run_lanes(schedule, [&](int task) {
      const auto t = static_cast<size_t>(task);
      const Tensor &w = weights[static_cast<size_t>(block_of[t])], &slot = slots[static_cast<size_t>(slot_of[t])];
      if (schedule[t].resource == Resource::link) {
        std::memcpy(slot.mutable_data_ptr(), w.const_data_ptr(), w.nbytes());
      } else {
        y = at::gelu(at::linear(y, resident[static_cast<size_t>(block_of[t])] ? w : slot));
      }
    });
  }
};

TEST(RealLanes, EqualVirtualTimeAndThePlainLoop) {
  at::set_num_threads(1);
  struct Case {
    int ring;
    double copy, compute;
    bool has_residents;
  };
  for (const Case& c : {Case{1, 0.021, 0.010, false}, Case{2, 0.021, 0.010, false}, Case{2, 0.021, 0.030, false},
                        Case{2, 0.028, 0.010, true}}) {
    const Blocks blocks(c.ring, c.copy, c.compute, c.has_residents);
    const double want = virtual_time(streaming(blocks.plan)).total;
    double best = 1e9;
    for (int attempt = 0; attempt < 5 && best > 1.05 * want; ++attempt) {  // another program may hold the core
      Tensor y;
      const Timeline timeline = blocks.run(y);
      EXPECT_TRUE(y.equal(blocks.whole()));
      EXPECT_GE(timeline.total, want);
      best = std::min(best, timeline.total);
    }
    test::expect_near_bound(
        concat("ring ", c.ring, " copy ", c.copy, " compute ", c.compute, " residents ", c.has_residents), best, want);
  }
}

TEST(RealLanes, WorkThatTakesLongerThanItsTaskIsWaitedFor) {
  const auto nap = [](int) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  const Timeline t = run_lanes({{Resource::cpu, 0.001}, {Resource::disk, 0.001, {0}}}, nap);
  EXPECT_GE(t.begin[1], 0.02);
  EXPECT_GE(t.total, 0.04);
}

TEST(RealLanes, TheFirstErrorStopsEveryLane) {
  int ran = 0;
  const Schedule schedule{{Resource::link, 0}, {Resource::device, 0, {0}}, {Resource::link, 0, {1}}};
  const auto work = [&](int task) {
    if (task == 1) throw std::runtime_error("torn");
    ++ran;
  };
  EXPECT_THROW(run_lanes(schedule, work), std::runtime_error);
  EXPECT_EQ(ran, 1);
  EXPECT_THROW(run_lanes({{Resource::cpu, 1, {3}}}, work), UsageError);
}

TEST(Pace, LateWakingDoesNotAddUp) {
  Pace pace;
  const auto start = Pace::Clock::now();
  for (int i = 0; i < 50; ++i) pace.spend(0.002, Pace::Clock::now());
  const double seconds = std::chrono::duration<double>(Pace::Clock::now() - start).count();
  EXPECT_GE(seconds, 0.099);
  if (seconds > 0.125 && !test::is_calm()) GTEST_SKIP() << "too busy a machine to time sleeps";
  EXPECT_LE(seconds, 0.125);
}

TEST(Pace, AnIdleLinkDoesNotSaveTimeUp) {
  Pace pace;
  pace.spend(0.001, Pace::Clock::now());
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  const auto start = Pace::Clock::now();
  pace.spend(0.010, start);
  EXPECT_GE(Pace::Clock::now() - start, std::chrono::milliseconds(10));
}

}  // namespace
}  // namespace kinora::offload
