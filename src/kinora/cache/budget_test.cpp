#include "kinora/cache/budget.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/cache/registry.h"
#include "kinora/cache/test_course.h"

namespace kinora::cache {
namespace {

SiteUse use_of(std::vector<bool> waits, size_t reuses, int64_t values = 1) {
  return {.waits = std::move(waits), .taken = std::vector<bool>(reuses, true), .values = values};
}

TEST(Budget, CountsWhatIsKeptAtOneTimeAtMost) {
  EXPECT_EQ(most_values({}), 0);
  const SiteUse early = use_of({false, true, false, false}, 1), late = use_of({false, false, true, false}, 1);
  // In call 1 the first site is freed at its visit, the second is kept from its own on: never both.
  EXPECT_EQ(most_values(std::vector{early, late}), 1);
  // The other way round, the first is kept in call 1 before the second is freed.
  EXPECT_EQ(most_values(std::vector{late, early}), 2);
  EXPECT_EQ(most_values(std::vector{early, early, use_of({false, true, true, true}, 2, 3)}), 5);
}

TEST(Budget, TakesTheSitesThatSaveMostForTheirBytes) {
  const std::vector<bool> always{false, true, true, true};
  const std::vector<SiteUse> uses{use_of(always, 2), use_of(always, 2), use_of(always, 3, 2), use_of(always, 1),
                                  use_of({false, false, false, false}, 0)};
  const std::vector<double> saved{2, 6, 9, 1, 0};
  const auto kept = [&](int64_t most) { return choose_sites(uses, saved, most); };
  using Bits = std::vector<bool>;  // by value: 2, 6, 4.5, 1, 0
  EXPECT_EQ(kept(0), (Bits{false, false, false, false, false}));
  EXPECT_EQ(kept(1), (Bits{false, true, false, false, false}));
  EXPECT_EQ(kept(2), (Bits{true, true, false, false, false})) << "the next best does not fit, one behind it does";
  EXPECT_EQ(kept(3), (Bits{false, true, true, false, false}));
  EXPECT_EQ(kept(9), (Bits{true, true, true, true, false})) << "what is never reused is not kept";
}

constexpr const char* kPab = "pab:window=400..960";
const std::vector<const char*> kMethods{kPab, "pab:window=400..960,keep=int8",
                                        "taylor:first=2,interval=3,sites=spatial+mlp"};

TEST(Budget, IsKeptToTheByteAndForetold) {
  for (const std::string text : kMethods) {
    const auto whole = make_method(text, context());
    const auto all = static_cast<uint64_t>(whole->most_row_bytes(kWidth, 4) * kRows);
    EXPECT_EQ(follow(*whole).most_bytes, all) << text;
    EXPECT_FALSE(whole->budget());
    double before = 1;
    for (const uint64_t limit : {all, all * 2 / 3, all / 3}) {
      const auto method = make_method(text, context(limit));
      const BudgetUse use = method->budget().value();
      EXPECT_EQ(use.limit, limit);
      EXPECT_EQ(use.all_bytes, all);
      EXPECT_LE(use.bytes, limit) << text;
      EXPECT_EQ(follow(*method).most_bytes, use.bytes) << text << " " << limit;
      EXPECT_EQ(use.kept == use.sites, limit == all);
      EXPECT_TRUE(limit == all ? use.share == 1 : use.share < before) << text << " " << use.share;
      // The sites that are kept are the better ones.
      EXPECT_GE(use.share, static_cast<double>(use.kept) / static_cast<double>(use.sites));
      before = use.share;
    }
  }
}

/// Computes at some sites whatever the method says.
class ComputeAt : public Policy {
 public:
  ComputeAt(Method& method, std::set<std::string, std::less<>> paths) : method_(method), paths_(std::move(paths)) {}
  bool reuses(const SiteKey& key, const kinora::Run& run) const override {
    return !paths_.contains(key.path) && method_.reuses(key, run);
  }
  Streams reuse(const SiteKey& key, const kinora::Run& run) override { return method_.reuse(key, run); }
  bool keeps(const SiteKey& key, const kinora::Run& run) const override { return method_.keeps(key, run); }
  void keep(const SiteKey& key, const kinora::Run& run, const Streams& s) override { method_.keep(key, run, s); }
  void ran(const SiteKey& key, const kinora::Run& run, bool reused) override { method_.ran(key, run, reused); }

 private:
  Method& method_;
  std::set<std::string, std::less<>> paths_;
};

TEST(Budget, LeavesTheOtherSitesAsTheyWouldBe) {
  for (const std::string text : kMethods) {
    const auto whole = make_method(text, context());
    const auto all = static_cast<uint64_t>(whole->most_row_bytes(kWidth, 4) * kRows);
    const auto within = make_method(text, context(all / 2));
    EXPECT_FALSE(within->left_out().empty());
    ComputeAt policy(*whole, within->left_out());
    const Course got = follow(*within), want = follow(*whole, &policy);
    for (size_t call = 0; call < kSchedule.size(); ++call)
      EXPECT_TRUE(got.outputs[call].equal(want.outputs[call])) << text << " " << call;
  }
}

TEST(Budget, ThatFitsNothingIsRefusedWithTheLeastThatWould) {
  const auto refused = [](const std::string& text, uint64_t limit) {
    try {
      make_method(text, context(limit));
    } catch (const UsageError& error) {
      return error.hint();
    }
    return std::string("not refused");
  };
  const uint64_t value = kRows * kWidth * 4;
  EXPECT_NE(refused(kPab, value - 1).find(concat("--cache-memory ", value)), std::string::npos);
  EXPECT_EQ(refused(kPab, value), "not refused");
  EXPECT_NE(refused("first-block", 2 * value - 1).find(concat("--cache-memory ", 2 * value)), std::string::npos);
  EXPECT_EQ(refused("first-block", 2 * value), "not refused");
  EXPECT_EQ(refused("first-block:keep=int8", 2 * value - 1), "not refused");
  EXPECT_EQ(refused("easy", 1), "not refused") << "latents are small beside a block's rows, and not counted";
  EXPECT_THROW(make_method("none", context(1)), UsageError);
}

TEST(Budget, IsToldInWords) {
  EXPECT_EQ(text_of({.kept = 40, .sites = 112, .share = 0.6249}), "kept 40 of 112 sites, 62 % of the saving");
  EXPECT_EQ(text_of({}), "");
}

}  // namespace
}  // namespace kinora::cache
