// Exchanges in pieces: the same rows, heads and bytes, and on a slow link less time.
#include "kinora/parallel/pieces.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/comm/threads.h"
#include "kinora/parallel/bytes.h"
#include "kinora/parallel/layouts.h"
#include "kinora/tensor/test_values.h"

namespace kinora::parallel {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

TEST(PieceCounts, GiveEveryRankWhatItHasWithoutPieces) {
  for (int64_t n = 0; n <= 40; ++n) {
    for (const int ranks : {1, 2, 3, 5}) {
      for (const int pieces : {1, 2, 3, 4}) {
        for (const int64_t least : {1, 2}) {
          SCOPED_TRACE(concat(n, " over ", ranks, " in ", pieces, " of at least ", least));
          std::vector<int64_t> all(static_cast<size_t>(ranks), 0);
          const std::vector<int64_t> counts = piece_counts(n, ranks, pieces, least);
          for (const int64_t count : counts) {
            const std::vector<int64_t> dealt = comm::even_counts(count, ranks);
            for (size_t r = 0; r < all.size(); ++r) all[r] += dealt[r];
            EXPECT_TRUE(counts.size() == 1 || dealt.back() >= least);
          }
          EXPECT_EQ(all, comm::even_counts(n, ranks));
          EXPECT_EQ(static_cast<int64_t>(counts.size()), std::clamp<int64_t>(n / ranks / least, 1, pieces));
        }
      }
    }
  }
}

/// Five heads over two ranks: 3 and 2, in two pieces 1 + 2 and 1 + 1.
TEST(Pieces, OfUlyssesGiveTheSameBitsForTheSameBytes) {
  const ModelFacts facts{.name = "a model", .width = 80, .heads = 5, .along_all = 1, .outputs = 8};
  const Extent extent{.frames = 3, .rows = 40};
  constexpr int64_t kText = 4;
  const auto drawn = [](at::IntArrayRef sizes, uint64_t seed) {
    return Heads{normal(sizes, seed).to(at::kFloat), normal(sizes, seed + 1).to(at::kFloat),
                 normal(sizes, seed + 2).to(at::kFloat)};
  };
  const Heads video = drawn({2, 5, 120, 16}, 1), text = drawn({2, 5, kText, 16}, 9);
  const Streams want = whole_layout().attend_all(video, &text, extent);
  for (const Axis home : {Axis::frames, Axis::rows}) {
    comm::run_ranks(2, [&](Communicator& world) {
      std::vector<Ledger> sent;
      for (const int pieces : {1, 2, 3}) {
        comm::Traffic traffic;
        comm::Counted counted(world, traffic);
        const Arrangement a{.layout = "ulysses", .home = home, .ranks = 2, .pieces = pieces};
        const MadeLayout made = make_layout(a, facts, extent, counted);
        traffic.clear();
        const auto own = [&](const Tensor& t) {
          const Tensor grid = made.layout().local(t.unflatten(2, {3, 40}), Axis::frames, 2);
          return made.layout().local(grid, Axis::rows, 3).flatten(2, 3);
        };
        const Streams got = made.layout().attend_all({own(video.q), own(video.k), own(video.v)}, &text, extent);
        EXPECT_TRUE(got[0].equal(own(want[0]))) << pieces;
        EXPECT_TRUE(got[1].equal(want[1])) << pieces;
        const CallShape call{.batch = 2, .extent = extent, .text_rows = kText, .element_bytes = 4};
        EXPECT_EQ(by_name(traffic), expected_bytes(a, facts, call, world.rank(), {.attentions = 1}));
        sent.push_back(by_name(traffic));
      }
      EXPECT_EQ(total(sent[1]), (comm::Sent{2 * total(sent[0]).calls, total(sent[0]).bytes}));
      EXPECT_EQ(sent[2], sent[1]) << "two pieces are all that five heads over two ranks give";
    });
  }
}

/// A link on which bytes take their time, one exchange after the other, beside whatever the rank does.
class SlowLink final : public Communicator {
 public:
  SlowLink(Communicator& inner, double bytes_per_second) : inner_(inner), speed_(bytes_per_second) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::unique_ptr<comm::Work> all_to_all(Tensor out, const Tensor& in, comm::Counts from, comm::Counts to,
                                         std::string_view name) override {
    const auto seconds = static_cast<double>(static_cast<int64_t>(in.nbytes())) / speed_;
    free_ = std::max(free_, Clock::now()) +
            std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    return std::make_unique<Late>(inner_.all_to_all(out, in, from, to, name), free_);
  }
  std::unique_ptr<comm::Work> all_gather(Tensor out, const Tensor& in, comm::Counts counts,
                                         std::string_view name) override {
    return inner_.all_gather(out, in, counts, name);
  }
  std::unique_ptr<comm::Work> reduce_scatter(Tensor out, const Tensor& in, comm::Counts counts,
                                             std::string_view name) override {
    return inner_.reduce_scatter(out, in, counts, name);
  }
  std::unique_ptr<comm::Work> all_reduce(Tensor values, std::string_view name) override {
    return inner_.all_reduce(values, name);
  }
  std::unique_ptr<comm::Work> broadcast(Tensor values, int root, std::string_view name) override {
    return inner_.broadcast(values, root, name);
  }
  std::unique_ptr<comm::Work> send(const Tensor& values, int to, std::string_view name) override {
    return inner_.send(values, to, name);
  }
  std::unique_ptr<comm::Work> recv(Tensor values, int from, std::string_view name) override {
    return inner_.recv(values, from, name);
  }
  void barrier(std::string_view name) override { inner_.barrier(name); }
  void rendezvous(std::string_view name) override { inner_.rendezvous(name); }
  std::unique_ptr<Communicator> split(int colour, int key) override { return inner_.split(colour, key); }

 private:
  struct Late final : comm::Work {
    Late(std::unique_ptr<comm::Work> w, Clock::time_point at) : work(std::move(w)), arrives(at) {}
    void wait() override {
      std::this_thread::sleep_until(arrives);
      work->wait();
    }
    std::unique_ptr<comm::Work> work;
    Clock::time_point arrives;
  };
  Communicator& inner_;
  double speed_;
  Clock::time_point free_ = Clock::now();
};

constexpr auto kWork = 120ms;

/// Of a bracket whose work takes 120 ms and whose exchanges take 120 ms each way.
double seconds_in_pieces(int pieces) {
  double slowest = 0;
  std::mutex mutex;
  comm::run_ranks(2, [&](Communicator& world) {
    const Tensor x = at::full({12, 6, 100}, world.rank(), at::kFloat);
    SlowLink group(world, static_cast<double>(x.nbytes()) / 0.12);
    std::vector<Piece> all;
    for (const Tensor& part : x.chunk(pieces, 0))
      all.push_back(
          {{part}, {.cut = 0, .join = 1, .cut_counts = comm::even_counts(part.size(0), 2), .join_counts = {6, 6}}});
    group.barrier("together");
    const auto begin = Clock::now();
    const auto back = switch_around(std::move(all), group, "there", "back", {}, [&](size_t, std::vector<Tensor> t) {
      std::this_thread::sleep_for(kWork / pieces);
      return t[0] + 1;
    });
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    EXPECT_TRUE(at::cat(back).equal(x + 1));
    const std::lock_guard lock(mutex);
    slowest = std::max(slowest, seconds);
  });
  return slowest;
}

/// One after the other 360 ms; in two pieces 240 ms, in which the link never rests.
TEST(Pieces, HideTheWorkBehindASlowLink) {
  double whole = HUGE_VAL, two = HUGE_VAL;
  for (int i = 0; i < 3; ++i) {
    whole = std::min(whole, seconds_in_pieces(1));
    two = std::min(two, seconds_in_pieces(2));
  }
  EXPECT_GE(whole, 0.36);
  EXPECT_GE(two, 0.24);
  EXPECT_LT(two, 0.85 * whole);
}

TEST(Pieces, LeaveNothingUnderWayWhereTheWorkFails) {
  const Tensor x = at::ones({4, 2});
  const auto fails = [&](Communicator& group) {
    std::vector<Piece> pieces;
    for (const Tensor& part : x.chunk(2, 0))
      pieces.push_back({{part}, {.cut = 0, .join = 1, .cut_counts = {1, 1}, .join_counts = {2, 2}}});
    const auto throws = [](size_t, std::vector<Tensor>) -> Tensor { throw DataError("of the work"); };
    EXPECT_THROW(switch_around(std::move(pieces), group, "there", "back", {}, throws), DataError);
    group.barrier("after");
  };
  comm::run_ranks(2, fails);
}

}  // namespace
}  // namespace kinora::parallel
