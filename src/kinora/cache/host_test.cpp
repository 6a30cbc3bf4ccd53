// What lies in the host's memory: that it comes back, in which order it is fetched, and what the device holds. The device is
// the CPU here.
#include <gtest/gtest.h>

#include "kinora/cache/registry.h"
#include "kinora/cache/test_course.h"

namespace kinora::cache {
namespace {

const std::vector<Branch> kBoth{Branch::cond, Branch::uncond}, kCond{Branch::cond}, kUncond{Branch::uncond};
constexpr uint64_t kBytes = 2 * 3 * sizeof(double);

Tensor value(double x) { return at::full({2, 3}, x, at::kDouble); }
double found(Store& store, std::string_view site) { return store.find(site, kBoth).value()[0][0][0].item<double>(); }

TEST(HostTier, IsFetchedAheadInTheOrderOfTheTakes) {
  Store store;
  store.use_host(at::kCPU, {"a", "b"}, {"a", "b", "b", "a"});
  store.put("a", kBoth, {value(1)});
  EXPECT_EQ(store.fetched(), "a") << "the first that is taken";
  store.put("b", kBoth, {value(2)});
  store.put("c", kBoth, {value(3)});
  EXPECT_EQ(store.device_bytes(), 2 * kBytes) << "c, and a on its way";
  EXPECT_EQ(store.bytes(), 4 * kBytes);
  EXPECT_EQ(found(store, "c"), 3);
  EXPECT_EQ(found(store, "a"), 1);
  EXPECT_EQ(store.fetched(), "b");
  store.drop("a", kBoth);
  EXPECT_EQ(found(store, "b"), 2);
  EXPECT_EQ(store.fetched(), "b") << "it is taken twice";
  EXPECT_EQ(found(store, "b"), 2);
  EXPECT_EQ(store.fetched(), "") << "the next was not put yet";
  store.put("a", kBoth, {value(4)});
  EXPECT_EQ(store.fetched(), "a");
  EXPECT_EQ(found(store, "a"), 4);
  EXPECT_EQ(store.fetched(), "");
  EXPECT_EQ(store.fetches().ahead, 4);
  EXPECT_EQ(store.fetches().late, 0);
}

TEST(HostTier, GivesTheRightValueInAnyOrder) {
  Store store;
  store.use_host(at::kCPU, {"a", "b"}, {"a", "b"});
  store.put("a", kBoth, {value(1)});
  store.put("b", kBoth, {value(2)});
  store.put("a", kBoth, {value(3)});  // while the old one is on the device
  EXPECT_EQ(found(store, "b"), 2);
  EXPECT_EQ(store.fetches().late, 1);
  EXPECT_EQ(found(store, "a"), 3);
  EXPECT_EQ(found(store, "a"), 3) << "once more than was foretold";
  store.drop("a", kCond);
  EXPECT_FALSE(store.find("a", kBoth));
  EXPECT_EQ(store.find("a", kUncond).value()[0].sizes(), at::IntArrayRef({1, 3}));
  store.drop("a", kUncond);
  store.drop("b", kBoth);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(HostTier, PabWithinABudgetIsPabItself) {
  for (const std::string text : {"pab:window=400..960", "pab:window=400..960,keep=int8"}) {
    const auto whole = make_method(text, context());
    const auto all = static_cast<uint64_t>(whole->most_row_bytes(kWidth, 4) * kRows);
    const Course want = follow(*whole);
    const uint64_t value_bytes = kRows * static_cast<uint64_t>(row_bytes(whole->form(), kWidth, 4));
    for (const uint64_t limit : {all * 2 / 3, 4 * value_bytes}) {  // the least: those on their way
      Context bounded = context(limit);
      bounded.host_for = at::Device(at::kCPU);
      const auto method = make_method(text, bounded);
      const BudgetUse use = method->budget().value();
      EXPECT_GT(use.on_host, 0);
      EXPECT_EQ(use.kept, use.sites);
      EXPECT_EQ(use.share, 1);
      EXPECT_LE(use.bytes, limit);
      uint64_t most_bytes = 0;
      method->on_decision = [&](const Decision&) { most_bytes = std::max(most_bytes, method->store().device_bytes()); };
      const Course got = follow(*method);
      for (size_t call = 0; call < kSchedule.size(); ++call) EXPECT_TRUE(got.outputs[call].equal(want.outputs[call]));
      EXPECT_LE(most_bytes, use.bytes);
      EXPECT_EQ(most_bytes > 0, true);
      EXPECT_GT(method->store().fetches().ahead, 10);
      EXPECT_EQ(method->store().fetches().late, 0) << text << " " << limit;
    }
    Context tight = context(4 * value_bytes - 1);
    tight.host_for = at::Device(at::kCPU);
    EXPECT_THROW(make_method(text, tight), UsageError);
  }
}

}  // namespace
}  // namespace kinora::cache
