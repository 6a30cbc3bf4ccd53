#include "kinora/ops/conv.h"

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"

namespace kinora::ops {
namespace {

/// in: x [B, C, T, H, W], weight [out, C, kt, kh, kw], bias; zero padding on both sides.
Tensor naive_conv3d(const Tensors& in, at::IntArrayRef stride, at::IntArrayRef padding) {
  const auto xs = in[0].sizes(), ws = in[1].sizes();
  const auto x = values(in[0]), w = values(in[1]);
  const auto bias = in.size() > 2 ? values(in[2]) : std::vector<double>(static_cast<size_t>(ws[0]));
  std::vector<int64_t> size{xs[0], ws[0]};
  for (int d = 0; d < 3; ++d) size.push_back((xs[d + 2] + 2 * padding[d] - ws[d + 2]) / stride[d] + 1);
  const auto pixel = [&](int64_t b, int64_t c, int64_t t, int64_t i, int64_t j) {
    if (t < 0 || i < 0 || j < 0 || t >= xs[2] || i >= xs[3] || j >= xs[4]) return 0.0;
    return x[(((b * xs[1] + c) * xs[2] + t) * xs[3] + i) * xs[4] + j];
  };
  std::vector<double> y;
  for (int64_t b = 0; b < size[0]; ++b)
    for (int64_t o = 0; o < size[1]; ++o)
      for (int64_t t = 0; t < size[2]; ++t)
        for (int64_t i = 0; i < size[3]; ++i)
          for (int64_t j = 0; j < size[4]; ++j) {
            double sum = bias[o];
            for (int64_t k = 0; k < ws[1] * ws[2] * ws[3] * ws[4]; ++k) {
              const int64_t kw = k % ws[4], kh = k / ws[4] % ws[3], kt = k / (ws[4] * ws[3]) % ws[2],
                            c = k / (ws[4] * ws[3] * ws[2]);
              sum += w[o * ws[1] * ws[2] * ws[3] * ws[4] + k] * pixel(b, c, t * stride[0] + kt - padding[0],
                                                                      i * stride[1] + kh - padding[1],
                                                                      j * stride[2] + kw - padding[2]);
            }
            y.push_back(sum);
          }
  return from_values(y, size);
}

struct ConvRow {
  std::vector<int64_t> kernel, stride, padding;
};

TEST(Conv, EqualsALoopInThreeDimensions) {
  const ConvRow rows[] = {
      {{1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {{3, 3, 3}, {1, 1, 1}, {1, 1, 1}}, {{3, 1, 3}, {2, 1, 2}, {0, 0, 1}}};
  for (const auto& row : rows) {
    SCOPED_TRACE(at::IntArrayRef(row.kernel));
    const Tensors in{normal({2, 3, 5, 7, 3}, 1), normal({5, 3, row.kernel[0], row.kernel[1], row.kernel[2]}, 2),
                     normal({5}, 3)};
    expect_operator(
        in, [&](const Tensors& t) { return conv(t[0], t[1], t[2], row.stride, row.padding); },
        [&](const Tensors& t) { return naive_conv3d(t, row.stride, row.padding); },
        [&](const Tensors& t) { return at::conv3d(t[0], t[1], t[2], row.stride, row.padding); });
  }
}

TEST(Conv, EqualsALoopInTwoDimensionsWithAndWithoutBias) {
  const ConvRow rows[] = {{{1, 1}, {1, 1}, {0, 0}}, {{3, 3}, {1, 1}, {1, 1}}, {{3, 3}, {2, 2}, {0, 0}}};
  for (const auto& row : rows) {
    SCOPED_TRACE(concat(at::IntArrayRef(row.kernel), " stride ", at::IntArrayRef(row.stride)));
    const auto naive = [&](Tensors t) {
      t[0] = t[0].unsqueeze(2), t[1] = t[1].unsqueeze(2);
      return naive_conv3d(t, {1, row.stride[0], row.stride[1]}, {0, row.padding[0], row.padding[1]}).squeeze(2);
    };
    const Tensors in{normal({2, 3, 17, 5}, 1), normal({1, 3, row.kernel[0], row.kernel[1]}, 2), normal({1}, 3)};
    expect_operator(
        in, [&](const Tensors& t) { return conv(t[0], t[1], t[2], row.stride, row.padding); }, naive,
        [&](const Tensors& t) { return at::conv2d(t[0], t[1], t[2], row.stride, row.padding); });
    expect_operator(
        {in[0], in[1]}, [&](const Tensors& t) { return conv(t[0], t[1], std::nullopt, row.stride, row.padding); },
        naive, [&](const Tensors& t) { return at::conv2d(t[0], t[1], {}, row.stride, row.padding); });
  }
}

TEST(Conv, APictureAloneHasTheBitsThatItHasInABatch) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Tensor x = normal({5, 3, 17, 13}, 1).to(dtype), weight = normal({7, 3, 3, 3}, 2).to(dtype),
                 bias = normal({7}, 3).to(dtype);
    const auto run = [&](const Tensor& t) { return conv(t, weight, bias, {1, 1}, {1, 1}); };
    EXPECT_TRUE(run(x.narrow(0, 4, 1)).equal(run(x).narrow(0, 4, 1))) << c10::toString(dtype);
  }
}

TEST(Conv, WhatDoesNotFitIsAUsageErrorOnMetaTensorsToo) {
  for (const auto device : {at::kCPU, at::kMeta}) {
    const auto zeros = [&](at::IntArrayRef shape) { return at::zeros(shape, device); };
    const Tensor x = zeros({2, 3, 5, 7}), weight = zeros({4, 3, 3, 3}), bias = zeros({4});
    EXPECT_NO_THROW(conv(x, weight, bias, {2, 1}, {0, 1}));
    EXPECT_THROW(conv(x, weight, bias, {1}, {1, 1}), UsageError);
    EXPECT_THROW(conv(x, weight, bias, {1, 1}, {1}), UsageError);
    EXPECT_THROW(conv(x, weight, bias, {}, {}), UsageError);
    EXPECT_THROW(conv(x, weight, bias, {1, 0}, {1, 1}), UsageError);
    EXPECT_THROW(conv(x, weight, bias, {1, 1}, {1, -1}), UsageError);
    EXPECT_THROW(conv(x[0], weight, bias, {1, 1}, {1, 1}), UsageError);
    EXPECT_THROW(conv(x, zeros({4, 2, 3, 3}), bias, {1, 1}, {1, 1}), UsageError);
    EXPECT_THROW(conv(x, zeros({4, 3, 7, 3}), bias, {1, 1}, {0, 0}), UsageError);
    EXPECT_THROW(conv(x, weight, zeros({5}), {1, 1}, {1, 1}), UsageError);
    EXPECT_THROW(conv(zeros({2, 3, 5}), zeros({4, 3, 3}), bias, {1}, {1}), UsageError);
  }
}

}  // namespace
}  // namespace kinora::ops
