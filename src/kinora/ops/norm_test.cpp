#include "kinora/ops/norm.h"

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"

namespace kinora::ops {
namespace {

constexpr double kEps = 1e-5;

/// in: x, weight, bias, scale, shift; scale and shift [B, T, 1, C] against x [B, T, S, C].
Tensor naive_layer_norm(const Tensors& in) {
  const auto x = values(in[0]), w = values(in[1]), b = values(in[2]), scale = values(in[3]), shift = values(in[4]);
  const int64_t rows = in[0].size(2), c = in[0].size(3), all = in[0].numel() / c;
  std::vector<double> y;
  for (int64_t r = 0; r < all; ++r) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < c; ++i) mean += x[r * c + i] / static_cast<double>(c);
    for (int64_t i = 0; i < c; ++i) variance += std::pow(x[r * c + i] - mean, 2) / static_cast<double>(c);
    for (int64_t i = 0; i < c; ++i) {
      const double normed = (x[r * c + i] - mean) / std::sqrt(variance + kEps) * w[i] + b[i];
      y.push_back(normed * (1 + scale[r / rows * c + i]) + shift[r / rows * c + i]);
    }
  }
  return from_values(y, in[0].sizes());
}

TEST(LayerNorm, EqualsALoopWithPerFrameModulation) {
  for (const auto& [rows, c] : {std::pair<int64_t, int64_t>{1, 3}, {3, 17}, {17, 8}}) {
    SCOPED_TRACE(concat(rows, " rows of ", c));
    const Tensors in{normal({2, 3, rows, c}, 1), normal({c}, 2), normal({c}, 3), normal({2, 3, 1, c}, 4),
                     normal({2, 3, 1, c}, 5)};
    expect_operator(
        in, [](const Tensors& t) { return layer_norm(t[0], t[1], t[2], t[3], t[4], kEps); }, naive_layer_norm,
        [](const Tensors& t) { return at::layer_norm(t[0], {t[0].size(-1)}, t[1], t[2], kEps) * (1 + t[3]) + t[4]; });
  }
}

TEST(LayerNorm, PartsThatAreNotGivenChangeNothing) {
  const Tensor x = normal({2, 3, 5, 7}, 1), one = at::ones({7}, at::kDouble), zero = at::zeros({7}, at::kDouble);
  const Tensor none = at::zeros({2, 3, 1, 7}, at::kDouble);
  const Tensor want = naive_layer_norm({x, one, zero, none, none});
  EXPECT_LE(relative_error(layer_norm(x, std::nullopt, std::nullopt, std::nullopt, std::nullopt, kEps), want), 1e-12);
  EXPECT_LE(relative_error(layer_norm(x, one, std::nullopt, none, std::nullopt, kEps), want), 1e-12);
  EXPECT_LE(relative_error(layer_norm(x, one, zero, std::nullopt, none, kEps), want), 1e-12);
}

Tensor naive_rms_norm(const Tensors& in) {
  const int64_t c = in[0].size(-1);
  const auto x = values(in[0]);
  const auto w = in.size() > 1 ? values(in[1]) : std::vector<double>(static_cast<size_t>(c), 1.0);
  std::vector<double> y;
  for (size_t r = 0; r < x.size(); r += static_cast<size_t>(c)) {
    double mean = 0;
    for (int64_t i = 0; i < c; ++i) mean += x[r + i] * x[r + i] / static_cast<double>(c);
    for (int64_t i = 0; i < c; ++i) y.push_back(x[r + i] / std::sqrt(mean + kEps) * w[i]);
  }
  return from_values(y, in[0].sizes());
}

TEST(RmsNorm, EqualsALoopWithAndWithoutWeight) {
  const auto plain = [](const Tensor& x) { return x * at::rsqrt(x.square().mean(-1, true) + kEps); };
  for (const int64_t c : {1, 3, 17}) {
    const Tensors in{normal({3, 5, c}, 1), normal({c}, 2)};
    expect_operator(
        in, [](const Tensors& t) { return rms_norm(t[0], t[1], kEps); }, naive_rms_norm,
        [&](const Tensors& t) { return plain(t[0]) * t[1]; });
    expect_operator(
        {in[0]}, [](const Tensors& t) { return rms_norm(t[0], std::nullopt, kEps); }, naive_rms_norm,
        [&](const Tensors& t) { return plain(t[0]); });
  }
}

/// in: x [B, C, ...], weight, bias.
Tensor naive_group_norm(const Tensors& in, int64_t groups, bool with_silu) {
  const auto x = values(in[0]), w = values(in[1]), b = values(in[2]);
  const int64_t channels = in[0].size(1), pixels = in[0].numel() / (in[0].size(0) * channels),
                each = channels / groups * pixels;
  std::vector<double> y;
  for (int64_t g = 0; g < in[0].size(0) * groups; ++g) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < each; ++i) mean += x[g * each + i] / static_cast<double>(each);
    for (int64_t i = 0; i < each; ++i) variance += std::pow(x[g * each + i] - mean, 2) / static_cast<double>(each);
    for (int64_t i = 0; i < each; ++i) {
      const int64_t channel = (g * each + i) / pixels % channels;
      const double v = (x[g * each + i] - mean) / std::sqrt(variance + kEps) * w[channel] + b[channel];
      y.push_back(with_silu ? v / (1 + std::exp(-v)) : v);
    }
  }
  return from_values(y, in[0].sizes());
}

TEST(GroupNorm, EqualsALoopWithAndWithoutActivation) {
  for (const auto& [groups, channels] : {std::pair<int64_t, int64_t>{1, 3}, {3, 9}, {5, 5}}) {
    for (const auto activation : {Activation::none, Activation::silu}) {
      SCOPED_TRACE(concat(groups, " groups of ", channels));
      const int64_t g = groups;
      const bool with_silu = activation == Activation::silu;
      const Tensors in{normal({2, channels, 3, 7}, 1), normal({channels}, 2), normal({channels}, 3)};
      expect_operator(
          in, [&](const Tensors& t) { return group_norm(t[0], g, t[1], t[2], kEps, activation); },
          [&](const Tensors& t) { return naive_group_norm(t, g, with_silu); },
          [&](const Tensors& t) {
            const Tensor y = at::group_norm(t[0], g, t[1], t[2], kEps);
            return with_silu ? at::silu(y) : y;
          });
    }
  }
}

TEST(GroupNorm, TellsItsStridesForPermutedInputs) {
  const Tensor permuted = normal({7, 2, 3, 9}, 1).permute({1, 3, 2, 0}),
               channels_last = normal({2, 3, 7, 9}, 1).permute({0, 3, 1, 2}),
               clip = normal({2, 3, 9, 5, 7}, 1).transpose(1, 2);
  for (const Tensor& x : {permuted, channels_last, clip}) {
    SCOPED_TRACE(x.strides());
    expect_operator(
        {x, normal({9}, 2), normal({9}, 3)},
        [](const Tensors& t) { return group_norm(t[0], 3, t[1], t[2], kEps, Activation::silu); },
        [](const Tensors& t) { return naive_group_norm(t, 3, true); },
        [](const Tensors& t) { return at::silu(at::group_norm(t[0], 3, t[1], t[2], kEps)); });
  }
}

TEST(GroupNorm, UnknownActivationIsAUsageError) {
  const Tensor ones = at::ones({3}, at::kDouble);
  EXPECT_THROW(group_norm(normal({1, 3, 2}, 1), 1, ones, ones, kEps, static_cast<Activation>(7)), UsageError);
}

}  // namespace
}  // namespace kinora::ops
