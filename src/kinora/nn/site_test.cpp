#include "kinora/nn/site.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/ops/attention.h"

namespace kinora {
namespace {

const SiteKey kKey{.path = "blocks.3.attn", .block = 3, .kind = Kind::spatial, .point = Point::module};

/// Keeps what it sees and gives it back where `reuse_now` says so.
class Keeper final : public Policy {
 public:
  bool reuses(const SiteKey&, const Run&) const override { return reuse_now; }
  Streams reuse(const SiteKey&, const Run&) override { return kept; }
  bool keeps(const SiteKey&, const Run&) const override { return keep_now; }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override {
    kept = streams;
    paths.emplace_back(key.path);
  }
  void ran(const SiteKey& key, const Run&, bool reused) override {
    visits.push_back(concat(key.path, reused ? " reused" : " computed"));
  }
  bool reuse_now = false, keep_now = true;
  std::vector<std::string> visits;
  Streams kept;
  std::vector<std::string> paths;
};

TEST(Site, WithoutAPolicyItComputes) {
  int calls = 0;
  const Streams out = site(kinora::Run{}, kKey, [&]() -> Streams {
    return ++calls, Streams{at::ones({3}), at::zeros({5})};
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(out.size(), 2U);
  EXPECT_TRUE(site_tensor(kinora::Run{}, kKey, [] { return at::ones({3}); }).equal(at::ones({3})));
}

TEST(Site, PolicySeesWhatWasComputedAndStandsInForIt) {
  Keeper policy;
  kinora::Run run;
  run.policy = &policy;
  const Tensor first = at::rand({3});
  EXPECT_TRUE(site_tensor(run, kKey, [&] { return first; }).is_same(first));
  ASSERT_EQ(policy.kept.size(), 1U);
  EXPECT_TRUE(policy.kept[0].is_same(first));
  EXPECT_EQ(policy.paths, std::vector<std::string>{"blocks.3.attn"});
  policy.reuse_now = true;
  const auto never = []() -> Tensor { throw std::logic_error("computed although the policy reuses"); };
  EXPECT_TRUE(site_tensor(run, kKey, never).is_same(first));
  EXPECT_EQ(policy.paths.size(), 1U) << "a reused site is not kept again";
}

TEST(Site, PolicyThatKeepsNothingIsHandedNothing) {
  Keeper policy;
  policy.keep_now = false;
  kinora::Run run;
  run.policy = &policy;
  EXPECT_TRUE(site_tensor(run, kKey, [] { return at::ones({3}); }).equal(at::ones({3})));
  EXPECT_TRUE(policy.kept.empty());
}

TEST(Site, PolicyIsToldOfEachVisit) {
  Keeper policy;
  kinora::Run run;
  run.policy = &policy;
  site_tensor(run, kKey, [] { return at::ones({3}); });
  policy.reuse_now = true;
  site_tensor(run, kKey, [] { return at::ones({3}); });
  EXPECT_EQ(policy.visits, (std::vector<std::string>{"blocks.3.attn computed", "blocks.3.attn reused"}));
}

TEST(Site, IsUnwatchedWhereNobodyWantsItsValue) {
  Keeper policy;
  kinora::Run run;
  EXPECT_TRUE(is_unwatched(run, kKey));
  run.policy = &policy;
  EXPECT_FALSE(is_unwatched(run, kKey));
  policy.keep_now = false;
  EXPECT_TRUE(is_unwatched(run, kKey));
  policy.reuse_now = true;
  EXPECT_FALSE(is_unwatched(run, kKey));
}

TEST(Site, DefaultPolicyChangesNothing) {
  Policy policy;
  kinora::Run run;
  run.policy = &policy;
  EXPECT_TRUE(site_tensor(run, kKey, [] { return at::ones({3}); }).equal(at::ones({3})));
}

Stack adding(std::vector<int>& order, int blocks) {
  return {.path = "blocks", .blocks = blocks, .block = [&order](const Run&, int b, Streams s) -> Streams {
            order.push_back(b);
            return {s[0] + b};
          }};
}

TEST(Stack, RunsEveryBlockOnceInOrder) {
  std::vector<int> order;
  EXPECT_EQ(stack(kinora::Run{}, adding(order, 4), {at::zeros({1})})[0].item<float>(), 0 + 1 + 2 + 3);
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
  Policy policy;
  kinora::Run run;
  run.policy = &policy;
  order.clear();
  EXPECT_EQ(stack(run, adding(order, 3), {at::zeros({1})})[0].item<float>(), 3);
  order.clear();
  EXPECT_EQ(stack(kinora::Run{}, adding(order, 0), {at::full({1}, 7.0)})[0].item<float>(), 7);
  EXPECT_TRUE(order.empty());
}

TEST(Stack, PolicyOwnsTheLoop) {
  struct FirstOnly final : Policy {
    Streams stack(const kinora::Run& run, const Stack& blocks, Streams streams) override {
      return run_blocks(run, blocks, 0, 1, std::move(streams));
    }
  } policy;
  kinora::Run run;
  run.policy = &policy;
  std::vector<int> order;
  stack(run, adding(order, 5), {at::zeros({1})});
  EXPECT_EQ(order, std::vector<int>{0});
}

TEST(Stack, StopsBetweenBlocksWhenCancelled) {
  std::stop_source stop;
  kinora::Run run;
  run.cancel = stop.get_token();
  int done = 0;
  const Stack blocks{.path = "blocks", .blocks = 5, .block = [&](const kinora::Run&, int b, Streams s) -> Streams {
                       ++done;
                       if (b == 1) stop.request_stop();
                       return s;
                     }};
  EXPECT_THROW(stack(run, blocks, {at::zeros({1})}), CancelledError);
  EXPECT_EQ(done, 2);
}

TEST(WholeLayout, EverythingIsTheIdentity) {
  const Layout& layout = whole_layout();
  const Tensor x = at::rand({2, 3, 5, 7});
  const Extent extent{.frames = 3, .rows = 5};
  EXPECT_TRUE(layout.local(x, Axis::frames, 1).is_same(x));
  EXPECT_TRUE(layout.whole(x, Axis::rows, 2, extent).is_same(x));
  EXPECT_TRUE(layout.sum(x).is_same(x));
  const kinora::Run run;
  const Bracket bracket{.part = Part::attention, .along = Axis::frames, .extent = extent};
  const Streams out = layout.around(run, bracket, {x}, [&](const kinora::Run& inner, Streams in) -> Streams {
    EXPECT_EQ(&inner, &run);
    EXPECT_TRUE(in[0].is_same(x));
    return {in[0] + 1};
  });
  EXPECT_TRUE(out[0].equal(x + 1));
  EXPECT_EQ(extent.of(Axis::frames), 3);
  EXPECT_EQ(extent.of(Axis::rows), 5);
}

TEST(WholeLayout, JointAttentionGivesEachStreamItsRowsBack) {
  const auto heads = [](int64_t rows) {
    return Heads{at::rand({2, 3, rows, 4}), at::rand({2, 3, rows, 4}), at::rand({2, 3, rows, 4})};
  };
  const Heads video = heads(5), text = heads(3);
  const Extent extent{.frames = 1, .rows = 5};
  EXPECT_TRUE(whole_layout().attend_all(video, nullptr, extent)[0].equal(ops::attention(video.q, video.k, video.v)));
  const Streams both = whole_layout().attend_all(video, &text, extent);
  const auto joined = [&](Tensor Heads::*part) { return at::cat({text.*part, video.*part}, 2); };
  const Tensor want = ops::attention(joined(&Heads::q), joined(&Heads::k), joined(&Heads::v));
  EXPECT_TRUE(both[0].equal(want.narrow(2, 3, 5)));
  EXPECT_TRUE(both[1].equal(want.narrow(2, 0, 3)));
}

TEST(WholeLayout, AttentionAlongAnAxisKeepsTheOtherApart) {
  const auto drawn = [] { return at::rand({2, 3, 4, 5, 6}); };
  const Heads heads{drawn(), drawn(), drawn()};
  const Tensor out = whole_layout().attend(heads, Axis::rows, {.frames = 3, .rows = 5});
  EXPECT_EQ(out.sizes(), heads.q.sizes());
  for (int64_t frame = 0; frame < 3; ++frame) {
    const auto of = [&](const Tensor& t) { return t.select(1, frame); };
    EXPECT_TRUE(at::allclose(of(out), ops::attention(of(heads.q), of(heads.k), of(heads.v)), 1e-5, 1e-6));
  }
}

}  // namespace
}  // namespace kinora
