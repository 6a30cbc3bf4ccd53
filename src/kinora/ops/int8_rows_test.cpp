#include "kinora/ops/int8_rows.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"
#include "kinora/ops/fused_rows.h"

namespace kinora::ops {
namespace {

TEST(Int8Rows, AreOffByHalfAStepAtMost) {
  for (const int64_t width : {1, 2, 15, 16, 17, 97, 1152}) {
    // Magnitudes of rows lie far apart: each has its own scale.
    const Tensor x =
        (normal({3, 5, 7, width}, 1) * at::logspace(-20, 20, 3 * 5 * 7, 10).view({3, 5, 7, 1})).to(at::kFloat);
    const Int8Rows rows = to_int8_rows(x);
    EXPECT_EQ(rows.values.scalar_type(), at::kChar);
    EXPECT_EQ(rows.scales.sizes(), at::IntArrayRef({3, 5, 7, 1}));
    const Tensor wide = x.to(at::kDouble), back = from_int8_rows(rows, at::kFloat).to(at::kDouble);
    const Tensor share = (back - wide).abs().amax(-1) / wide.abs().amax(-1);
    EXPECT_LE(share.max().item<double>(), (1 + 1e-4) / 254) << width;
    EXPECT_TRUE(width == 1 || share.max().item<double>() > 0.5 / 254) << "the bound is nearly met";
  }
}

TEST(Int8Rows, FusedEqualsAten) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Tensor x = normal({4, 3, 33}, 2).to(dtype);
    const Int8Rows fused = to_int8_rows(x);
    const Tensor back = from_int8_rows(fused, dtype);
    EXPECT_EQ(back.scalar_type(), dtype);
    const Int8Rows plain = to_int8_rows(x.to(at::kDouble));  // has no kernel
    EXPECT_TRUE(fused.values.equal(plain.values)) << dtype;
    EXPECT_TRUE(fused.scales.equal(plain.scales)) << dtype;
    EXPECT_TRUE(back.equal(from_int8_rows(plain, at::kDouble).to(at::kFloat).to(dtype))) << dtype;
    const Tensor view = normal({33, 3, 8}, 2).to(dtype).transpose(0, 2),
                 rows = normal({3, 4, 33}, 3).to(dtype).transpose(0, 1);
    EXPECT_TRUE(to_int8_rows(view).values.equal(to_int8_rows(view.contiguous()).values));
    EXPECT_TRUE(to_int8_rows(rows).values.equal(to_int8_rows(rows.contiguous()).values));
  }
}

TEST(Int8Rows, EveryProcessorsKernelGivesTheSameBits) {
  const Tensor x = normal({6, 77}, 4).to(at::kFloat);
  const Int8Rows want = to_int8_rows(x);
  Tensor values = at::zeros_like(want.values), scales = at::zeros_like(want.scales), out = at::zeros_like(x);
  Rows<float> from{.data = x.const_data_ptr<float>(), .dims = 1, .sizes = {6}, .strides = {77}};
  baseline::kRowKernels.float32.to_int8(
      {.x = from, .values = values.mutable_data_ptr<int8_t>(), .scales = scales.mutable_data_ptr<float>(), .width = 77},
      0, 6);
  baseline::kRowKernels.float32.from_int8({.values = values.const_data_ptr<int8_t>(),
                                           .scales = scales.const_data_ptr<float>(),
                                           .out = out.mutable_data_ptr<float>(),
                                           .width = 77},
                                          0, 6);
  EXPECT_TRUE(values.equal(want.values));
  EXPECT_TRUE(scales.equal(want.scales));
  EXPECT_TRUE(out.equal(from_int8_rows(want, at::kFloat)));
}

TEST(Int8Rows, ZerosStayAndOverflowIsNotHidden) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    Tensor x = normal({5, 20}, 5).to(dtype);
    x[0].zero_();
    x[1].fill_(1e-37);
    x[2][19] = INFINITY;
    x[3][0] = NAN;
    const Tensor back = from_int8_rows(to_int8_rows(x), dtype);
    EXPECT_EQ(back[0].abs().max().item<double>(), 0);
    EXPECT_EQ(back[1].abs().max().item<double>(), 0);
    EXPECT_TRUE(at::isnan(back[2]).all().item<bool>());
    EXPECT_TRUE(at::isnan(back[3]).all().item<bool>());
    EXPECT_TRUE(at::isfinite(back[4]).all().item<bool>());
  }
}

TEST(Int8Rows, RefuseWhatHasNoRows) {
  EXPECT_THROW(to_int8_rows(at::ones({})), UsageError);
  EXPECT_THROW(to_int8_rows(at::ones({2, 0})), UsageError);
  EXPECT_THROW(to_int8_rows(at::ones({2, 2}, at::kLong)), UsageError);
  EXPECT_EQ(from_int8_rows(to_int8_rows(at::ones({0, 4})), at::kFloat).sizes(), at::IntArrayRef({0, 4}));
}

}  // namespace
}  // namespace kinora::ops
