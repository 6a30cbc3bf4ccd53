#include "kinora/offload/streamed.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <thread>

#include "kinora/base/error.h"
#include "kinora/offload/ahead.h"
#include "kinora/offload/pace_of.h"
#include "kinora/offload/schedule.h"
#include "kinora/offload/toy_model.h"

namespace kinora::offload {
namespace {

using test::kAll;
using test::kMatrices;
using test::ToyModel;

constexpr int kBlocks = 6;

class Streamed : public testing::Test {
 protected:
  Streamed() { at::set_num_threads(1); }
  StreamPlan plan(int resident, int slots = 2) const {
    return stream_with(model.params(), sizeof(double), resident, slots, kAll);
  }
  Tensor resident_result() {
    ResidentWeights weights(values);
    return model({.weights = &weights}, x);
  }

  const ToyModel model{kBlocks};
  const std::vector<Tensor> values = model.values();
  TensorStore store{values};
  const Tensor x = normal({2, 7, 24}, 3);
  const RingOptions poisoned{.poisons = true};
};

TEST_F(Streamed, EqualsResidentBitForBitWhateverTheRing) {
  const Tensor want = resident_result();
  for (const int slots : {1, 2, 3, 9}) {
    for (const int resident : {0, 1, 3, 5, 6}) {
      StreamedWeights weights(model.params(), plan(resident, slots), store, poisoned);
      const int passes = 3, streamed = kBlocks - resident;
      for (int pass = 0; pass < passes; ++pass) EXPECT_TRUE(model({.weights = &weights}, x).equal(want));
      const RingCounts counts = weights.counts();
      // What all fits in the ring is copied once; else in every pass, and the ring may be ahead by what it holds.
      int least = 1, most = 1;
      if (streamed > slots) least = passes, most = passes + 1;
      EXPECT_EQ(counts.copies.size(), static_cast<size_t>(kMatrices * streamed));
      for (const auto& [id, n] : counts.copies) {
        EXPECT_GE(n, least) << slots << " slots, " << resident << " resident";
        EXPECT_LE(n, most) << slots << " slots, " << resident << " resident";
      }
    }
  }
}

TEST_F(Streamed, BackwardAsksAgainAndGradientsEqualResidentOnes) {
  const at::AutoGradMode grad(true);
  const auto leaves = [&] {
    std::vector<Tensor> out;
    for (const Tensor& t : values) out.push_back(t.clone().requires_grad_(true));
    return out;
  };
  ResidentWeights resident(leaves());
  const Tensor first = x.clone().requires_grad_(true), second = x.clone().requires_grad_(true);
  model({.weights = &resident}, first).square().sum().backward();
  for (const int slots : {1, 2}) {
    StreamedWeights weights(model.params(), plan(2, slots), store, poisoned);
    second.mutable_grad() = Tensor();
    model({.weights = &weights}, second).square().sum().backward();
    EXPECT_LT((first.grad() - second.grad()).abs().max().item<double>(), 1e-11);
    EXPECT_EQ(weights.gradients().size(), static_cast<size_t>(kMatrices * 4));
    for (const auto& [id, gradient] : weights.gradients()) {
      const Tensor want = resident.tensors()[static_cast<size_t>(id)].grad();
      EXPECT_LT((gradient - want).abs().max().item<double>(), 1e-11) << model.params()[id].name;
    }
  }
}

TEST_F(Streamed, BackwardIsForeseenFromTheSecondTimeOn) {
  const at::AutoGradMode grad(true);
  StreamedWeights weights(model.params(), plan(0), store, poisoned);
  const auto train = [&] {
    const Tensor leaf = x.clone().requires_grad_(true);
    model({.weights = &weights}, leaf).square().sum().backward();
  };
  train();
  train();
  const uint64_t vain = weights.counts().vain_bytes;
  for (int i = 0; i < 3; ++i) train();
  EXPECT_EQ(weights.counts().vain_bytes, vain);
}

TEST_F(Streamed, AFreedSlotIsPoisonAndAHeldOneIsNot) {
  StreamedWeights weights(model.params(), plan(0, 1), store,
                          {.poisons = true, .patience = std::chrono::milliseconds(500)});
  const Param& first = model.params()[model.id("blocks.0.attn.proj.weight")];
  const Param& other = model.params()[model.id("blocks.3.attn.proj.weight")];
  Tensor held = weights.get(first);
  const Tensor stale = at::from_blob(held.data_ptr(), held.sizes(), held.options());
  EXPECT_TRUE(held.equal(values[static_cast<size_t>(first.id)]));
  EXPECT_THROW(weights.get(other), ResourceError);  // the only slot is held
  EXPECT_TRUE(held.equal(values[static_cast<size_t>(first.id)]));
  held.reset();
  EXPECT_TRUE(stale.isnan().all().item<bool>());
  EXPECT_TRUE(weights.get(other).equal(values[static_cast<size_t>(other.id)]));
}

TEST_F(Streamed, ATensorOutlivesItsSource) {
  Tensor held;
  const Param& p = model.params()[model.id("blocks.2.mlp.fc1.weight")];
  {
    StreamedWeights weights(model.params(), plan(0), store);
    held = weights.get(p);
  }
  EXPECT_TRUE(held.equal(values[static_cast<size_t>(p.id)]));
}

TEST_F(Streamed, WhatTheStoreThrowsComesOutOfTheLayer) {
  class Torn : public WeightStore {
   public:
    explicit Torn(WeightStore& inner) : inner_(inner) {}
    at::ScalarType dtype() const override { return inner_.dtype(); }
    uint64_t copy(const Param& param, int64_t first, const Tensor& place) override {
      if (param.name == "blocks.4.mlp.fc1.weight") throw DataError("torn");
      return inner_.copy(param, first, place);
    }
    WeightStore& inner_;
  } torn(store);
  StreamedWeights weights(model.params(), plan(0), torn);
  EXPECT_THROW(model({.weights = &weights}, x), DataError);
  EXPECT_THROW(model({.weights = &weights}, x), DataError);                       // and of every later one
  EXPECT_THROW(StreamedWeights(model.params(), plan(kBlocks), torn), DataError);  // read at once
  EXPECT_THROW(Ring({}, store, {.slots = 0}), UsageError);
}

TEST_F(Streamed, BothGuidanceBranchesOfACallShareOneTransfer) {
  constexpr int kCalls = 3;
  for (const Tensor& rows : {x, x.narrow(0, 0, 1)}) {
    StreamedWeights weights(model.params(), plan(0), store, poisoned);
    for (int call = 0; call < kCalls; ++call) model({.weights = &weights}, rows);
    const RingCounts counts = weights.counts();
    const uint64_t pass = weights.plan().streamed_bytes;
    EXPECT_GE(counts.bytes, kCalls * pass);
    EXPECT_LE(counts.bytes, kCalls * pass + pass / kBlocks);  // and a block ahead
  }
}

TEST_F(Streamed, RequestsSideBySideShareEveryTransfer) {
  constexpr int kRequests = 3, kCalls = 4;
  const Tensor want = resident_result();
  StreamedWeights first(model.params(), plan(0), store, poisoned);
  std::vector<std::unique_ptr<StreamedWeights>> others;
  for (int i = 1; i < kRequests; ++i) others.push_back(first.beside());
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kRequests; ++i) {
      threads.emplace_back([&, i] {
        const at::NoGradGuard no_grad;
        StreamedWeights& weights = i == 0 ? first : *others[static_cast<size_t>(i - 1)];
        for (int call = 0; call < kCalls; ++call) {
          EXPECT_TRUE(model({.weights = &weights}, x).equal(want));
          std::this_thread::sleep_for(std::chrono::milliseconds(i));
        }
      });
    }
  }
  for (const auto& [id, n] : first.counts().copies) {
    EXPECT_GE(n, kCalls);
    EXPECT_LE(n, kCalls + 1) << model.params()[id].name;
  }
  others.clear();  // nobody waits for them any more
  EXPECT_TRUE(model({.weights = &first}, x).equal(want));
}

/// Reuses every attention at odd calls.
struct Alternate : Policy {
  std::map<std::string, Streams> kept;
  bool reuses(const SiteKey& key, const Run& run) const override {
    return key.kind == Kind::full && run.step.call % 2 == 1;
  }
  Streams reuse(const SiteKey& key, const Run&) override { return kept.at(std::string(key.path)); }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override { kept[std::string(key.path)] = streams; }
};

TEST_F(Streamed, WeightsOfReusedSitesAreNotTransferred) {
  constexpr int kCalls = 8;
  const std::vector<double> schedule(kCalls, 500);
  const auto denoise = [&](WeightSource& weights, Policy& policy) {
    Tensor y = x;
    for (int call = 0; call < kCalls; ++call) {
      const Step step{
          .call = call, .calls = kCalls, .timestep = schedule[static_cast<size_t>(call)], .schedule = schedule};
      y = model({.weights = &weights, .policy = &policy, .step = step}, y);
    }
    return y;
  };
  ResidentWeights resident(values);
  Alternate plain, cache;
  StreamedWeights weights(model.params(), plan(0), store, poisoned);
  Ahead ahead(model.params(), weights, &cache);
  EXPECT_TRUE(denoise(weights, ahead).equal(denoise(resident, plain)));
  const RingCounts counts = weights.counts();
  for (int b = 0; b < kBlocks; ++b) {
    const auto copies = [&](const char* layer) {
      return counts.copies.at(model.id(concat("blocks.", b, ".", layer, ".weight")));
    };
    // Of 8 calls half; the first block of the second call was copied before anybody knew its sites.
    EXPECT_LE(copies("attn.proj"), kCalls / 2 + (b == 0 ? 2 : 1)) << b;
    EXPECT_GE(copies("mlp.fc1"), kCalls);
  }
}

/// Real lanes: the link takes its time for each block, and so does the device.
TEST_F(Streamed, LinkAndDeviceMeetTheLowerBound) {
  const auto block = static_cast<double>((24 * 24 + 2 * 24 * 48) * sizeof(double));
  const Tensor want = resident_result();
  struct Case {
    double copy, compute;
    int resident;
  };
  for (const Case& c : {Case{0.020, 0.010, 0}, Case{0.020, 0.030, 0}, Case{0.030, 0.010, 3}}) {
    ThrottledStore link(store, block / c.copy);
    StreamedWeights weights(model.params(), plan(c.resident), link, poisoned);
    const StepBound bound{.compute_seconds = kBlocks * c.compute,
                          .bytes = kBlocks * block,
                          .resident_bytes = c.resident * block,
                          .link_rate = block / c.copy};
    Pace device;  // begins a block when all of its weights are there
    const auto pass = [&] {
      const Tensor y = model({.weights = &weights}, x, [&](int) { device.spend(c.compute, Pace::Clock::now()); });
      EXPECT_TRUE(y.equal(want));
    };
    const double pace = test::pace_of(pass, 2, 1.05 * bound.seconds());
    test::expect_near_bound(concat("copy ", c.copy, " compute ", c.compute, " resident ", c.resident), pace,
                            bound.seconds());
  }
}

TEST_F(Streamed, AnUnforeseenWeightOfASkippedSiteIsCopiedAllTheSame) {
  StreamedWeights weights(model.params(), plan(0), store, poisoned);
  weights.skip(std::vector<bool>(values.size(), true), std::vector<bool>(values.size(), true));
  EXPECT_TRUE(model({.weights = &weights}, x).equal(resident_result()));
}

}  // namespace
}  // namespace kinora::offload
