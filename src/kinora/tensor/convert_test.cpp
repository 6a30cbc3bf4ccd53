#include "kinora/tensor/convert.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <limits>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/tensor/test_ledger.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

class Convert : public testing::Test {
 protected:
  std::shared_ptr<const SafetensorsFile> open() const { return std::make_shared<const SafetensorsFile>(path_); }
  const TempFolder temp_;
  const fs::path path_ = temp_ / "a.safetensors";
};

TEST_F(Convert, EveryTypeSurvivesSavingAndLoading) {
  NamedTensors tensors;
  const at::Tensor base = at::arange(15).reshape({3, 5}).sub(7);
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
                                    at::kChar, at::kByte, at::kBool, at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    tensors.emplace_back(std::string("t.") + at::toString(type), base.to(at::kFloat).to(type));
    EXPECT_EQ(to_scalar_type(to_dtype(type)), type);
  }
  tensors.emplace_back("scalar", at::full({}, 2.5));
  tensors.emplace_back("empty", at::empty({0, 3}));
  tensors.emplace_back("strided", base.to(at::kFloat).t());
  save_tensors(path_, tensors, {{"step", "7"}});
  const auto file = open();
  EXPECT_EQ(file->metadata().at("step"), "7");
  for (const auto& [name, want] : tensors) {
    const at::Tensor got = load_tensor(file, *file->find(name));
    EXPECT_EQ(got.scalar_type(), want.scalar_type()) << name;
    EXPECT_EQ(got.sizes(), want.sizes()) << name;
    EXPECT_TRUE(got.to(at::kDouble).equal(want.to(at::kDouble))) << name;
  }
}

TEST_F(Convert, AViewUsesTheMappingAndKeepsItOpen) {
  save_tensors(path_, {{"a", at::arange(1000).to(at::kFloat)}});
  Ledger ledger;
  at::Tensor view;
  {
    const auto file = open();
    view = load_tensor(file, *file->find("a"), std::nullopt, &ledger);
    EXPECT_EQ(view.const_data_ptr(), static_cast<const void*>(file->bytes(*file->find("a")).data()));
    EXPECT_EQ(file.use_count(), 2);
  }
  fs::remove(path_);
  EXPECT_EQ(ledger.current(MemoryKind::mapped), 4000U);
  EXPECT_FLOAT_EQ(view.sum().item<float>(), 499'500.0F);
  view.reset();
  EXPECT_EQ(ledger.current_total(), 0U);
}

TEST_F(Convert, AnotherTypeIsAConvertedCopy) {
  save_tensors(path_, {{"a", at::tensor({1.0F, 2.5F, -3.0F})}});
  const auto file = open();
  const at::Tensor half = load_tensor(file, *file->find("a"), at::kBFloat16);
  EXPECT_EQ(half.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(half.to(at::kFloat).equal(at::tensor({1.0F, 2.5F, -3.0F})));
  EXPECT_EQ(file.use_count(), 1);
}

TEST_F(Convert, AMisalignedTensorIsCopied) {
  const float values[2] = {1.5F, -2.0F};
  const std::byte one{1};
  const TensorBytes tensors[] = {{"odd", DType::U8, {1}, {&one, 1}},
                                 {"f", DType::F32, {2}, std::as_bytes(std::span(values))}};
  write_safetensors(path_, tensors);
  const auto file = open();
  for (const auto type : {at::kFloat, at::kDouble}) {
    const at::Tensor got = load_tensor(file, *file->find("f"), type);
    EXPECT_TRUE(got.to(at::kFloat).equal(at::tensor({1.5F, -2.0F})));
    EXPECT_EQ(file.use_count(), 1);
  }
  // save_tensors puts larger types first, so nothing is misaligned there.
  save_tensors(path_, {{"odd", at::ones({1}, at::kByte)}, {"f", at::ones({2})}, {"d", at::ones({1}, at::kDouble)}});
  EXPECT_EQ(open()->tensors()[0].name, "d");
  EXPECT_EQ(open()->tensors()[2].name, "odd");
}

TEST_F(Convert, ABoolThatIsNeitherTrueNorFalseIsRefused) {
  const std::byte bytes[2] = {std::byte{1}, std::byte{2}};
  write_safetensors(path_, std::vector<TensorBytes>{{"b", DType::BOOL, {2}, bytes}});
  const auto file = open();
  EXPECT_THROW(load_tensor(file, *file->find("b")), DataError);
}

TEST_F(Convert, WhatCannotBeWrittenIsRefused) {
  EXPECT_THROW(save_tensors(path_, {{"c", at::zeros({1}, at::kComplexFloat)}}), UsageError);
  EXPECT_THROW(save_tensors(path_, {{"u", at::Tensor()}}), UsageError);
  EXPECT_THROW(to_dtype(at::kComplexDouble), UsageError);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(Convert, MappedWeightsExplainTheResidentPeakWithin5Percent) {
  save_tensors(path_, {{"a", at::ones({20'000'000})}, {"b", at::ones({5'000'000})}});
  ::malloc_trim(0);
  if (!reset_peak_resident()) GTEST_SKIP() << "the peak cannot be reset here";
  const uint64_t baseline = resident_bytes();
  Ledger ledger;
  {
    const auto file = open();
    const at::Tensor a = load_tensor(file, *file->find("a"), std::nullopt, &ledger);
    const at::Tensor b = load_tensor(file, *file->find("b"), std::nullopt, &ledger);
    EXPECT_EQ(a.sum().item<float>() + b.sum().item<float>(), 25e6F);
  }
  const double share = explained_share(ledger, baseline);
  EXPECT_GT(share, 0.95) << ledger.summary();
  EXPECT_LT(share, 1.05) << ledger.summary();
}

TEST(CheckFinite, CountsWhatIsNot) {
  const float inf = std::numeric_limits<float>::infinity();
  const at::Tensor bad = at::tensor({1.0F, inf, -inf, std::numeric_limits<float>::quiet_NaN()});
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    try {
      check_finite(bad.to(type), "blocks.0.weight", "a.safetensors");
      ADD_FAILURE();
    } catch (const DataError& error) {
      EXPECT_STREQ(error.what(),
                   "'a.safetensors': tensor \"blocks.0.weight\" holds 3 values of 4 that are NaN or infinite");
    }
  }
  EXPECT_THROW(check_finite(bad.to(at::kFloat8_e5m2), "t", "f"), DataError);
  EXPECT_NO_THROW(check_finite(at::ones({3}).to(at::kFloat8_e4m3fn), "t", "f"));
  EXPECT_NO_THROW(check_finite(at::ones({3}, at::kLong), "t", "f"));
  EXPECT_NO_THROW(check_finite(at::empty({0}), "t", "f"));
}

}  // namespace
}  // namespace kinora
