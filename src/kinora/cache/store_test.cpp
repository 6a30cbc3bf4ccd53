#include "kinora/cache/store.h"

#include <gtest/gtest.h>

#include "kinora/tensor/allocator.h"

namespace kinora::cache {
namespace {

const std::vector<Branch> kBoth{Branch::cond, Branch::uncond}, kCond{Branch::cond}, kUncond{Branch::uncond};

Tensor rows(double first, double second) { return at::tensor({first, second}, at::kDouble); }

TEST(Store, GivesBackWhatWasPutWithoutACopy) {
  Store store;
  EXPECT_FALSE(store.find("a", kCond));
  const Tensor value = rows(1, 2);
  store.put("a", kBoth, {value});
  const auto kept = store.find("a", kBoth);
  ASSERT_TRUE(kept);
  EXPECT_TRUE(kept->at(0).is_same(value));
  EXPECT_FALSE(store.has("b", kBoth));
  EXPECT_EQ(store.bytes(), 2 * sizeof(double));
}

TEST(Store, KeepsBranchesApartInWhateverCallsTheyCome) {
  Store store;
  store.put("a", kBoth, {rows(1, 2)});
  EXPECT_EQ(store.find("a", kUncond)->at(0).item<double>(), 2);
  EXPECT_TRUE(store.find("a", {Branch::uncond, Branch::cond})->at(0).equal(rows(2, 1)));

  store.put("a", kCond, {at::full({1}, 5.0, at::kDouble)});  // guidance skipped: the other stays
  const auto both = store.find("a", kBoth);
  ASSERT_TRUE(both);
  EXPECT_TRUE(both->at(0).equal(rows(5, 2)));

  store.drop("a", kCond);
  EXPECT_FALSE(store.has("a", kBoth));
  EXPECT_EQ(store.find("a", kUncond)->at(0).item<double>(), 2);
  store.drop("a", kUncond);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(Store, SplitsEveryStream) {
  Store store;
  store.put("a", kBoth, {rows(1, 2), rows(3, 4)});
  const auto cond = store.find("a", kCond);
  ASSERT_EQ(cond->size(), 2u);
  EXPECT_EQ(cond->at(1).item<double>(), 3);
}

}  // namespace
}  // namespace kinora::cache
