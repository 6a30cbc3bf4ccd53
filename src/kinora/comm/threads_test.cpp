#include "kinora/comm/threads.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <thread>

#include "kinora/base/error.h"

namespace kinora::comm {
namespace {

using namespace std::chrono_literals;

/// What run_ranks throws of class E says all of `words`.
template <typename E>
void expect_error(int ranks, const std::function<void(Communicator&)>& f, const std::vector<std::string>& words,
                  const ThreadOptions& options = {}) {
  try {
    run_ranks(ranks, f, options);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const E& error) {
    for (const auto& word : words) EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

TEST(Threads, DisagreementShowsBothSides) {
  for (const Check check : {Check::always, Check::first}) {
    const ThreadOptions o{.deadline = 5s, .check = check};
    const auto sum = [](Communicator& g, int64_t n, at::ScalarType dtype, const char* name) {
      for (int i = 0; i < 5; ++i) g.all_reduce(at::zeros({8}), "warm")->wait();  // beyond what is compared at first
      g.all_reduce(at::zeros({n}, dtype), name)->wait();
    };
    expect_error<PeerError>(
        3, [&](Communicator& g) { sum(g, g.rank() == 1 ? 9 : 8, at::kFloat, "warm"); },
        {"all_reduce #5 'warm'", "[8]", "[9]", "rank 1"}, o);
    expect_error<PeerError>(
        3, [&](Communicator& g) { sum(g, 8, g.rank() == 2 ? at::kDouble : at::kFloat, "warm"); },
        {"Float", "Double", "rank 2"}, o);
    expect_error<PeerError>(
        3, [&](Communicator& g) { sum(g, 8, at::kFloat, g.rank() == 0 ? "left" : "right"); },
        {"'left'", "'right'", "rank 0"}, o);
  }
}

TEST(Threads, SkippedAndReorderedCollectivesAreFound) {
  const auto two = [](Communicator& g, bool swapped) {
    const auto gather = [&] {
      const std::vector<int64_t> counts(static_cast<size_t>(g.size()), 2);
      g.all_gather(at::empty({2 * g.size()}), at::zeros({2}), counts, "g")->wait();
    };
    if (swapped) gather();
    g.all_reduce(at::zeros({8}), "r")->wait();
    if (!swapped) gather();
  };
  for (const Check check : {Check::always, Check::first}) {
    const ThreadOptions o{.deadline = 5s, .check = check};
    expect_error<PeerError>(
        3, [&](Communicator& g) { two(g, g.rank() == 1); }, {"all_reduce #0 'r'", "all_gather #0 'g'"}, o);
    expect_error<PeerError>(
        2,
        [](Communicator& g) {
          if (g.rank() == 1) g.barrier("extra");
          g.all_reduce(at::zeros({8}), "r")->wait();
        },
        {"barrier #0 'extra'", "all_reduce #0 'r'"}, o);
    expect_error<PeerError>(
        2,
        [](Communicator& g) {
          if (g.rank() == 0) g.all_reduce(at::zeros({8}), "r")->wait();
        },
        {"rank 1 has finished", "all_reduce #0 'r'"}, o);
  }
}

TEST(Threads, CountsThatDifferBetweenTwoRanksAreFound) {
  const auto f = [](Communicator& g) {
    std::vector<int64_t> to{2, 2, 2}, from{2, 2, 2};
    if (g.rank() == 1) to[2] = 3;
    g.all_to_all(at::empty({6}), at::zeros({to[2] + 4}), from, to, "x")->wait();
  };
  expect_error<PeerError>(3, f, {"to [2, 2, 3]", "from [2, 2, 2]"});
  expect_error<PeerError>(3, f, {"to [2, 2, 3]", "from [2, 2, 2]"}, {.check = Check::first});
}

TEST(Threads, MessagesThatDifferAreFound) {
  expect_error<PeerError>(2,
                          [](Communicator& g) {
                            if (g.rank() == 0) g.send(at::zeros({3}), 1, "m")->wait();
                            if (g.rank() == 1) g.recv(at::zeros({4}), 0, "m")->wait();
                          },
                          {"message #0 'm'", "[3]", "[4]"});
}

TEST(Threads, ARankThatFailsIsTheCauseThatIsThrown) {
  expect_error<DataError>(4,
                          [](Communicator& g) {
                            g.barrier("b");
                            if (g.rank() == 2) throw DataError("the file is damaged");
                            for (int i = 0; i < 3; ++i) g.barrier("b");
                          },
                          {"the file is damaged"});
}

TEST(Threads, ARankThatDoesNotComeIsNamedWhenTimeIsUp) {
  const auto f = [](Communicator& g) {
    if (g.rank() == 1) std::this_thread::sleep_for(800ms);
    try {
      g.barrier("meet");
    } catch (const DeadlineError& error) {
      EXPECT_EQ(g.rank() == 1, false);
      throw;
    }
  };
  expect_error<DeadlineError>(
      3, f, {"barrier #0 'meet'", "nothing from rank 1 within 0.2 s", "rank 1 has called nothing yet"},
      {.deadline = 200ms});
}

TEST(Threads, ARendezvousWaitsBeyondTheDeadlineButNotForTheDead) {
  run_ranks(3,
            [](Communicator& g) {
              if (g.rank() == 1) std::this_thread::sleep_for(600ms);
              g.rendezvous("all done");
            },
            {.deadline = 200ms});
  expect_error<DataError>(3,
                          [](Communicator& g) {
                            if (g.rank() == 1) throw DataError("the file is damaged");
                            g.rendezvous("all done");
                          },
                          {"the file is damaged"}, {.deadline = 200ms});
}

TEST(Threads, AfterAFailureARankDoesNotGoOn) {
  run_ranks(2, [](Communicator& g) {
    if (g.rank() == 1) return;
    EXPECT_THROW(g.barrier("b"), PeerError);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_THROW(g.all_reduce(at::zeros({2}), "r"), PeerError);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 100ms);
  });
}

TEST(Threads, GradientsAreRecordedAsTheyAreOutside) {
  for (const bool on : {true, false}) {
    const at::AutoGradMode mode(on);
    run_ranks(2, [on](Communicator&) { EXPECT_EQ(at::GradMode::is_enabled(), on); });
  }
}

TEST(Threads, NumbersThatCannotBeAreRefused) {
  EXPECT_THROW(run_ranks(0, [](Communicator&) {}), UsageError);
  EXPECT_THROW(run_ranks(65, [](Communicator&) {}), UsageError);
  EXPECT_THROW(run_ranks(2, [](Communicator&) {}, {.deadline = 0ms}), UsageError);
  EXPECT_THROW(run_ranks(2, [](Communicator&) {}, {.largest_message = 0}), UsageError);
}

TEST(Threads, GroupsWithinGroupsAreNotTakenForEachOther) {
  run_ranks(2, [](Communicator& world) {
    const auto first = world.split(0, world.rank()), second = world.split(0, world.rank());
    const auto inner = second->split(0, world.rank());
    // Who waits looks at what the other did last in this group, and that was a split of another.
    if (world.rank() == 0) std::this_thread::sleep_for(100ms);
    inner->barrier("inner");
  });
}

}  // namespace
}  // namespace kinora::comm
