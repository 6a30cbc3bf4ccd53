#include "kinora/cache/form.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/cache/registry.h"
#include "kinora/cache/store.h"
#include "kinora/tensor/allocator.h"
#include "kinora/tensor/test_values.h"

namespace kinora::cache {
namespace {

const std::vector<Branch> kBoth{Branch::cond, Branch::uncond}, kCond{Branch::cond}, kUncond{Branch::uncond};

TEST(Form, ErrorsStayWithinWhatIsStated) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const Tensor value = normal({2, 3, 5, 40}, 1).to(dtype);
    const auto error = [&](Form form) {
      const Tensor back = restored(kept_as(value, form));
      EXPECT_EQ(back.scalar_type(), dtype);
      return (back - value).abs();
    };
    EXPECT_TRUE(restored(kept_as(value, Form::same)).is_same(value));
    EXPECT_LE(error(Form::bfloat16).div(value.abs()).max().item<double>(), 1.0 / 256);
    EXPECT_GT(error(Form::bfloat16).div(value.abs()).max().item<double>(), 1.0 / 512);
    const Tensor share = error(Form::int8).amax(-1) / value.abs().amax(-1);
    EXPECT_LE(share.max().item<double>(), (1 + 1e-4) / 254);
    EXPECT_GT(share.max().item<double>(), 0.5 / 254);
  }
}

TEST(Form, WhatHasNoRowsStaysAsItIs) {
  for (const Form form : {Form::bfloat16, Form::int8}) {
    const Tensor vector = at::ones({3}), whole = at::ones({2, 2}, at::kLong);
    EXPECT_TRUE(restored(kept_as(vector, form)).is_same(vector));
    EXPECT_TRUE(restored(kept_as(whole, form)).is_same(whole));
  }
}

TEST(Form, AStoreHoldsTheBytesThatAreForetoldAndTheMeterCountsThem) {
  static auto* const counted = new Ledger;  // tensors may be freed after main
  Ledger& ledger = *counted;
  install_counting_allocator(ledger);
  constexpr int64_t kRows = 2 * 3 * 5, kWidth = 40;
  for (const auto& [form, buffers] : {std::pair{Form::same, 1}, {Form::bfloat16, 1}, {Form::int8, 2}}) {
    Store store;
    store.keep_as(form);
    store.put("a", kBoth, {normal({2, 3, 5, kWidth}, 2).to(at::kFloat)});
    const auto bytes = static_cast<uint64_t>(kRows * row_bytes(form, kWidth, sizeof(float)));
    EXPECT_EQ(store.bytes(), bytes);
    constexpr uint64_t kHead = 64;  // the allocator's, for each buffer
    EXPECT_EQ(ledger.current(MemoryKind::caches), bytes + buffers * kHead);
    store.drop("a", kBoth);
    EXPECT_EQ(ledger.current(MemoryKind::caches), 0u);
  }
  EXPECT_EQ(row_bytes(Form::int8, 1152, 2), 1156);
}

TEST(Form, AStoreKeepsBranchesApart) {
  Store store;
  store.keep_as(Form::int8);
  const Tensor value = normal({4, 3, 8}, 3).to(at::kFloat), exact = normal({4, 3, 8}, 4).to(at::kFloat);
  store.put("a", kBoth, {value});
  const Tensor both = store.find("a", kBoth)->at(0);
  EXPECT_FALSE(both.equal(value));
  EXPECT_TRUE(store.find("a", kUncond)->at(0).equal(both.narrow(0, 2, 2)));
  store.put("a", kCond, {value.narrow(0, 2, 2)});  // the other branch stays
  EXPECT_TRUE(store.find("a", kBoth)->at(0).equal(at::cat({both.narrow(0, 2, 2), both.narrow(0, 2, 2)})));
  store.put_exact("a", kBoth, {exact});
  EXPECT_TRUE(store.find("a", kBoth)->at(0).is_same(exact));
}

TEST(Form, IsASettingOfEveryMethodThatKeepsMoreThanLatents) {
  const Context context{.model = "STDiT3", .schedule = {1000, 500}, .steps = 2};
  const int64_t as_it_is = make_method("first-block", context)->most_row_bytes(100, 4);
  EXPECT_EQ(as_it_is, 800);
  EXPECT_EQ(make_method("first-block:keep=int8", context)->most_row_bytes(100, 4), 400 + 104)
      << "what decides is kept as it is";
  EXPECT_EQ(make_method("mag:ratios=1+1,keep=bfloat16", context)->most_row_bytes(100, 4), 200);
  EXPECT_THROW(make_method("pab:keep=int4", context), UsageError);
  EXPECT_THROW(make_method("pab:keep=8", context), UsageError);
  EXPECT_THROW(make_method("easy:keep=int8", context), UsageError);
  EXPECT_NE(make_method("easy:keep=same", context), nullptr);
}

}  // namespace
}  // namespace kinora::cache
