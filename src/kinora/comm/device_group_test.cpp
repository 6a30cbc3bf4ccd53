#include "kinora/comm/device_group.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <thread>

#include "kinora/base/error.h"
#include "kinora/comm/collective_cases.h"
#include "kinora/comm/threads.h"

namespace kinora::comm {
namespace {

using namespace std::chrono_literals;

struct Done : Work {
  void wait() override {}
};

/// A device that does everything at once: the CPU, and messages between threads.
class CpuLane final : public Lane {
 public:
  CpuLane(Communicator& group, at::Device named) : group_(group.split(0, group.rank())), device_(named) {}
  at::Device device() const override { return device_; }
  std::unique_ptr<Work> run(const Call&, std::vector<Tensor>, const std::function<void()>& f) override {
    check();
    f();
    return std::make_unique<Done>();
  }
  void exchange(std::span<const Part> sent, std::span<const Part> received) override {
    std::vector<std::unique_ptr<Work>> works;
    for (const Part& part : sent) works.push_back(group_->send(part.values, part.peer, "part"));
    for (const Part& part : received) works.push_back(group_->recv(part.values, part.peer, "part"));
    for (const auto& work : works) work->wait();
  }
  void wait_for_device() override { check(); }
  void check() override {
    if (fails) throw DeadlineError("the device has waited too long");
  }
  std::unique_ptr<Lane> of_group(Communicator& group) const override {
    return std::make_unique<CpuLane>(group, device_);
  }

  bool fails = false;

 private:
  std::unique_ptr<Communicator> group_;
  at::Device device_;
};

/// f(group, its lane) as each of `ranks` ranks.
void with_devices(int ranks, const std::function<void(Communicator&, CpuLane&)>& f, at::Device device = at::kCPU,
                  Check check = Check::always) {
  const auto as_rank = [&](Communicator& control) {
    auto lane = std::make_unique<CpuLane>(control, device);
    CpuLane& seen = *lane;
    const auto group = device_group(control, std::move(lane), check);
    f(*group, seen);
  };
  run_ranks(ranks, as_rank, {.deadline = 60s});  // more exchanges than elsewhere, on however busy a machine
}

TEST(DeviceGroup, CollectivesEqualNaiveLoops) {
  const at::NoGradGuard no_grad;
  for (const int ranks : {1, 2, 3}) with_devices(ranks, [](Communicator& g, CpuLane&) { expect_collectives(g); });
  with_devices(
      5, [](Communicator& g, CpuLane&) { expect_collectives(g); }, at::kCPU, Check::first);
}

TEST(DeviceGroup, TensorsOfTheCpuGoBetweenTheProcesses) {
  const at::NoGradGuard no_grad;
  with_devices(
      3,
      [](Communicator& g, CpuLane&) {
        expect_collectives(g);
        EXPECT_THROW(g.all_reduce(at::empty({2}, at::kMeta), "meta"), UsageError);
        g.barrier("still in step");
      },
      at::Device(at::kCUDA, 0));
}

TEST(DeviceGroup, DisagreementShowsBothSidesOnEveryRank) {
  const auto differ = [](const std::function<void(Communicator&)>& f, const std::vector<std::string>& words) {
    with_devices(3, [&](Communicator& g, CpuLane&) {
      try {
        f(g);
        ADD_FAILURE() << "rank " << g.rank() << " saw no difference";
      } catch (const PeerError& error) {
        for (const auto& word : words)
          EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
      }
    });
  };
  differ([](Communicator& g) { g.all_reduce(at::zeros({g.rank() == 1 ? 9 : 8}), "sum")->wait(); },
         {"all_reduce #0 'sum'", "[8]", "[9]", "rank 1"});
  differ([](Communicator& g) { g.all_reduce(at::zeros({8}, g.rank() == 2 ? at::kDouble : at::kFloat), "sum")->wait(); },
         {"Float", "Double", "rank 2"});
  differ([](Communicator& g) { g.broadcast(at::zeros({8}), g.rank() == 0 ? 1 : 0, "b")->wait(); },
         {"from rank 1", "from rank 0"});
  differ(
      [](Communicator& g) {
        std::vector<int64_t> to{2, 2, 2}, from{2, 2, 2};
        if (g.rank() == 1) to[0] = to[2] = 3;
        g.all_to_all(at::empty({6}), at::zeros({to[0] + to[2] + 2}), from, to, "x")->wait();
      },
      {"to [3, 2, 3]", "from [2, 2, 2]"});
}

TEST(DeviceGroup, AGroupNamesTheRanksOfTheWorld) {
  with_devices(3, [](Communicator& g, CpuLane&) {
    const auto last = g.split(g.rank() > 0 ? 1 : 0, 0);
    if (g.rank() == 0) return;
    try {
      last->all_reduce(at::zeros({g.rank()}), "sum")->wait();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const PeerError& error) {
      EXPECT_NE(std::string(error.what()).find("rank 2"), std::string::npos) << error.what();
    }
  });
}

TEST(DeviceGroup, MessagesThatDifferAreFound) {
  with_devices(2, [](Communicator& g, CpuLane&) {
    const auto talk = [&] {
      if (g.rank() == 0) g.send(at::zeros({3}), 1, "m")->wait();
      if (g.rank() == 1) g.recv(at::zeros({4}), 0, "m")->wait();
    };
    EXPECT_THROW(talk(), PeerError);
  });
}

TEST(DeviceGroup, MessagesInAnyOrderReachTheirReceivers) {
  for (const bool receives_first : {true, false}) {
    with_devices(3, [&](Communicator& g, CpuLane&) {
      const int next = (g.rank() + 1) % 3, before = (g.rank() + 2) % 3;
      const Tensor a = at::full({3}, g.rank(), at::kFloat), b = at::full({2}, 10 + g.rank(), at::kFloat),
                   from_a = at::empty({3}), from_b = at::empty({2});
      std::vector<std::unique_ptr<Work>> works;
      const auto send = [&] { works.push_back(g.send(a, next, "m")), works.push_back(g.send(b, next, "m")); };
      if (!receives_first) send();
      works.push_back(g.recv(from_a, before, "m"));
      works.push_back(g.recv(from_b, before, "m"));
      if (receives_first) send();
      g.all_reduce(at::ones({2}), "between");
      for (auto& work : works) work->wait();
      EXPECT_TRUE(at::equal(from_a, at::full({3}, before, at::kFloat)));
      EXPECT_TRUE(at::equal(from_b, at::full({2}, 10 + before, at::kFloat)));
    });
  }
}

TEST(DeviceGroup, WhatTheDeviceFailedWithIsThrownByAnyLaterCall) {
  run_ranks(2, [](Communicator& control) {
    auto lane = std::make_unique<CpuLane>(control, at::Device(at::kCUDA, 0));
    CpuLane& device = *lane;
    const auto group = device_group(control, std::move(lane), Check::first);
    group->all_reduce(at::ones({2}), "before")->wait();
    device.fails = true;
    EXPECT_THROW(group->all_reduce(at::ones({2}), "of the CPU"), DeadlineError);
    EXPECT_THROW(group->barrier("b"), DeadlineError);
    EXPECT_THROW(group->split(0, 0), DeadlineError);
    device.fails = false;
    EXPECT_THROW(group->barrier("still out of step"), DeadlineError);
  });
}

TEST(DeviceGroup, AfterADisagreementARankDoesNotGoOn) {
  with_devices(2, [](Communicator& g, CpuLane&) {
    EXPECT_THROW(g.all_reduce(at::zeros({g.rank() + 1}), "sum"), PeerError);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_THROW(g.send(at::zeros({1}), 1 - g.rank(), "m"), PeerError);
    EXPECT_THROW(g.barrier("b"), PeerError);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 100ms);
  });
}

}  // namespace
}  // namespace kinora::comm
