#include "kinora/ops/patchify.h"

#include <array>

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"

namespace kinora::ops {
namespace {

/// in: x [B, C, T, H, W], weight [out, C, pt, ph, pw], bias. A loop over rows and what each sees; zeros behind x.
Tensor naive_patchify(const Tensors& in) {
  const auto xs = in[0].sizes(), ws = in[1].sizes();
  const auto x = values(in[0]), w = values(in[1]), bias = values(in[2]);
  const std::array<int64_t, 3> n{ceil_div(xs[2], ws[2]), ceil_div(xs[3], ws[3]), ceil_div(xs[4], ws[4])};
  const int64_t each = ws[1] * ws[2] * ws[3] * ws[4];
  std::vector<double> y;
  for (int64_t row = 0; row < xs[0] * n[0] * n[1] * n[2]; ++row) {
    const int64_t b = row / (n[0] * n[1] * n[2]), t = row / (n[1] * n[2]) % n[0], h = row / n[2] % n[1], c = row % n[2];
    for (int64_t out = 0; out < ws[0]; ++out) {
      double sum = bias[out];
      for (int64_t k = 0; k < each; ++k) {
        const int64_t frame = t * ws[2] + k / (ws[4] * ws[3]) % ws[2], line = h * ws[3] + k / ws[4] % ws[3],
                      column = c * ws[4] + k % ws[4], channel = k / (ws[4] * ws[3] * ws[2]);
        if (frame >= xs[2] || line >= xs[3] || column >= xs[4]) continue;
        sum += w[out * each + k] * x[(((b * xs[1] + channel) * xs[2] + frame) * xs[3] + line) * xs[4] + column];
      }
      y.push_back(sum);
    }
  }
  return from_values(y, {xs[0], n[0], n[1] * n[2], ws[0]});
}

TEST(Patchify, IsAConvolutionWhoseStrideIsItsKernelWithZerosBehind) {
  for (const auto& patch : {std::array<int64_t, 3>{1, 2, 2}, {1, 1, 1}, {2, 3, 2}}) {
    SCOPED_TRACE(at::IntArrayRef(patch.data(), 3));
    const Tensors in{normal({2, 3, 3, 7, 5}, 1), normal({5, 3, patch[0], patch[1], patch[2]}, 2), normal({5}, 3)};
    const auto aten = [&](const Tensors& t) {
      const auto behind = [&](int d) { return (patch[d] - t[0].size(d + 2) % patch[d]) % patch[d]; };
      const Tensor whole = at::constant_pad_nd(t[0], {0, behind(2), 0, behind(1), 0, behind(0)});
      return at::conv3d(whole, t[1], t[2], at::IntArrayRef(patch.data(), 3)).flatten(3).permute({0, 2, 3, 1});
    };
    expect_operator(
        in, [](const Tensors& t) { return patchify(t[0], t[1], t[2]); }, naive_patchify, aten);
  }
}

TEST(Patchify, ShapesThatDoNotFitAreUsageErrors) {
  const Tensor x = normal({1, 3, 2, 4, 4}, 1), weight = normal({5, 3, 1, 2, 2}, 2), bias = normal({5}, 3);
  EXPECT_THROW(patchify(x[0], weight, bias), UsageError);
  EXPECT_THROW(patchify(x, weight[0], bias), UsageError);
  EXPECT_THROW(patchify(x.narrow(1, 0, 2), weight, bias), UsageError);
  EXPECT_THROW(patchify(x, weight, bias.narrow(0, 0, 4)), UsageError);
  EXPECT_THROW(patchify(x, weight.narrow(2, 0, 0), bias), UsageError);
  EXPECT_NO_THROW(patchify(x, weight, std::nullopt));
}

}  // namespace
}  // namespace kinora::ops
