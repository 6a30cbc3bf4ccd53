#include "kinora/ops/byte_linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"

namespace kinora::ops {
namespace {

double off_by(const Tensor& got, const Tensor& want) {
  const Tensor wide = want.to(at::kDouble);
  return ((got.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

Tensor multiplied(const Tensor& x, const Tensor& weight, ByteFormat format) {
  return byte_linear(x, to_byte_rows(weight, format), std::nullopt);
}

TEST(ByteLinear, ErrorsOnGaussianWeightsAreThoseOfTheFormats) {
  const Tensor w = normal({512, 1024}, 1), x = normal({33, 1024}, 2), want = at::linear(x, w);
  const double int8 = off_by(multiplied(x, w, ByteFormat::int8), want),
               fp8 = off_by(multiplied(x, w, ByteFormat::fp8), want);
  EXPECT_GT(int8, 0.006);
  EXPECT_LT(int8, 0.010);
  EXPECT_GT(fp8, 0.018);
  EXPECT_LT(fp8, 0.028);
}

TEST(ByteRows, ANumberIsOffByHalfAStepAtMost) {
  const Tensor w = normal({17, 129}, 3), most = w.abs().amax(-1, true);
  const ByteRows int8 = to_byte_rows(w, ByteFormat::int8), fp8 = to_byte_rows(w, ByteFormat::fp8);
  const Tensor off8 = (from_byte_rows(int8, 0, 17, at::kDouble) - w).abs();
  EXPECT_LE((off8 / most).max().item<double>(), 1.0 / 254 * 1.001);
  // Three bits of mantissa: 1/16 of the number, or half the least step, 2^-9, below the least normal number, 2^-6.
  const Tensor off = (from_byte_rows(fp8, 0, 17, at::kDouble) - w).abs();
  EXPECT_TRUE((off <= at::maximum(w.abs() / 16, most / 448 * std::pow(2.0, -10)) * 1.001).all().item<bool>());
  EXPECT_EQ(int8.bytes(), 17 * 129 + 17 * 4);
}

TEST(ByteRows, AreEqualFromPartAndWholeAndInEveryDtype) {
  for (const ByteFormat format : {ByteFormat::int8, ByteFormat::fp8}) {
    const ByteRows rows = to_byte_rows(normal({29, 37}, 4), format);
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const Tensor whole = from_byte_rows(rows, 0, 29, dtype);
      EXPECT_TRUE(from_byte_rows(rows, 5, 11, dtype).equal(whole.narrow(0, 5, 11)));
      EXPECT_TRUE(whole.equal(from_byte_rows(rows, 0, 29, at::kFloat).to(dtype)));
    }
    EXPECT_TRUE(from_byte_rows(rows, 0, 29, at::kFloat).equal(rows.values.to(at::kFloat) * rows.scales));
  }
}

TEST(ByteRows, RowsOfZerosAndOfNaNKeepTheirKind) {
  for (const ByteFormat format : {ByteFormat::int8, ByteFormat::fp8}) {
    Tensor w = normal({4, 8}, 5, at::kFloat);
    w[1].zero_();
    w[2][3] = INFINITY;
    w[3].fill_(1e-38);
    const Tensor back = from_byte_rows(to_byte_rows(w, format), 0, 4, at::kFloat);
    EXPECT_TRUE(back[0].isfinite().all().item<bool>());
    EXPECT_TRUE(back[1].eq(0).all().item<bool>());
    EXPECT_TRUE(back[2].isnan().all().item<bool>());
    EXPECT_TRUE(back[3].eq(0).all().item<bool>());
  }
}

TEST(ByteLinear, EqualsTheProductWithTheFloatingRows) {
  for (const ByteFormat format : {ByteFormat::int8, ByteFormat::fp8}) {
    const ByteRows rows = to_byte_rows(normal({193, 72}, 6), format);
    for (const int64_t n : {1, 3, 8, 9, 40}) {
      const Tensor x = normal({2, n, 72}, 7), bias = normal({193}, 8);
      for (const auto& [dtype, tolerance] : kDTypes) {
        const Tensor y = byte_linear(x.to(dtype), rows, bias.to(dtype));
        const Tensor want = at::linear(x, from_byte_rows(rows, 0, 193, at::kDouble), bias);
        EXPECT_EQ(y.scalar_type(), dtype);
        EXPECT_LT(relative_error(y, want), tolerance) << n << dtype;
      }
    }
  }
}

/// Some kernels of few rows take widths and places of whole vectors alone, and do not say so.
TEST(ByteLinear, TakesRowsOfEveryWidthFromEveryPlace) {
  for (const int64_t width : {1, 8, 15, 24, 64, 72}) {
    const ByteRows rows = to_byte_rows(normal({6, width}, 6), ByteFormat::int8);
    const Tensor apart = at::empty({rows.values.numel() + 1}, at::kChar).narrow(0, 1, rows.values.numel());
    const ByteRows shifted{apart.view(rows.values.sizes()).copy_(rows.values), rows.scales};
    const Tensor all = normal({4 * width + 1}, 7).to(at::kBFloat16);
    for (const int64_t begin : {0, 1}) {
      const Tensor x = all.narrow(0, begin, 4 * width).view({4, width});
      const Tensor want = at::linear(x.to(at::kDouble), from_byte_rows(rows, 0, 6, at::kDouble));
      for (const ByteRows& weight : {rows, shifted})
        EXPECT_LT(relative_error(byte_linear(x, weight, std::nullopt), want), 0.02) << width << " from " << begin;
    }
  }
}

TEST(ByteLinear, IsAnOperatorWithShapeAndGradient) {
  const ByteRows rows = to_byte_rows(normal({5, 7}, 9), ByteFormat::int8);
  const auto meta = [](const Tensor& t) { return t.to(at::kMeta); };
  const Tensor x = normal({2, 3, 7}, 10);
  const Tensor twin = byte_linear(meta(x), {meta(rows.values), meta(rows.scales)}, std::nullopt);
  EXPECT_EQ(twin.sizes(), (at::IntArrayRef{2, 3, 5}));
  Tensor leaf = x.clone().requires_grad_(true);
  byte_linear(leaf, rows, std::nullopt).sum().backward();
  EXPECT_LT(relative_error(leaf.grad(), from_byte_rows(rows, 0, 5, at::kDouble).sum(0).expand({2, 3, 7})), 1e-12);
}

TEST(ByteLinear, RefusesWhatDoesNotFit) {
  const ByteRows rows = to_byte_rows(normal({5, 7}, 9), ByteFormat::int8);
  EXPECT_THROW(byte_linear(normal({2, 6}, 1), rows, std::nullopt), UsageError);
  EXPECT_THROW(to_byte_rows(normal({5}, 1), ByteFormat::fp8), UsageError);
  EXPECT_THROW(to_byte_rows(at::zeros({2, 2}, at::kLong), ByteFormat::int8), UsageError);
  EXPECT_THROW(byte_format_of("int4"), UsageError);
  EXPECT_EQ(byte_format_of("fp8"), ByteFormat::fp8);
}

}  // namespace
}  // namespace kinora::ops
