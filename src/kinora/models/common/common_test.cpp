#include <gtest/gtest.h>

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/models/common/embeddings.h"
#include "kinora/models/common/feed_forward.h"
#include "kinora/models/common/positions.h"

namespace kinora::models {
namespace {

double at3(const Tensor& t, int64_t a, int64_t b, int64_t c) { return t[a][b][c].item<double>(); }

double wave(double position, int64_t k, int64_t width) {
  const int64_t half = width / 2;
  const double angle = position * std::pow(10000.0, -2.0 * static_cast<double>(k % half) / static_cast<double>(width));
  return k < half ? std::sin(angle) : std::cos(angle);
}

TEST(Timesteps, OddWidthsEndInAZeroAndHalvesSwap) {
  const Tensor t = at::tensor({0.0, 0.5, 997.25});
  const Tensor plain = timestep_frequencies(t, 11, false, 1), flipped = timestep_frequencies(t, 11, true, 1);
  EXPECT_EQ(plain.sizes(), at::IntArrayRef({3, 11}));
  EXPECT_EQ(plain.select(1, 10).abs().max().item<double>(), 0);
  EXPECT_TRUE(plain.narrow(1, 0, 5).equal(flipped.narrow(1, 5, 5)));
  EXPECT_TRUE(plain.narrow(1, 5, 5).equal(flipped.narrow(1, 0, 5)));
  EXPECT_NEAR(plain[2][1].item<double>(), std::sin(997.25 * std::pow(10000.0, -1.0 / 4.0)), 1e-4);
}

TEST(FeedForward, ActivatesTheSecondHalfOfAGatedLayer) {
  Params params;
  const FeedForward layer(Scope(params), 6, 5, feed_forward_form("swiglu", "test"), false);
  auto weights = init_weights(params, 1);
  const Tensor x = at::arange(18).view({3, 6}) / 10.0;
  const Tensor both = at::linear(x, weights.tensors()[0]);
  const Tensor want = at::linear(both.narrow(1, 0, 5) * at::silu(both.narrow(1, 5, 5)), weights.tensors()[1]);
  EXPECT_LT((layer({.weights = &weights}, x) - want).abs().max().item<double>(), 1e-6);
  EXPECT_THROW(feed_forward_form("tanh", "test"), DataError);
}

TEST(Positions, SincosTableEqualsTheNaiveOne) {
  const Tensor table = sincos_3d(3, 5, 2, 32, 1.875, 2.0).table();
  EXPECT_EQ(table.sizes(), at::IntArrayRef({3, 10, 32}));
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t y = 0; y < 5; ++y) {
      for (int64_t x = 0; x < 2; ++x) {
        for (int64_t k = 0; k < 32; ++k) {
          const double want = k < 8    ? wave(t / 2.0, k, 8)
                              : k < 20 ? wave(x / 1.875, k - 8, 12)
                                       : wave(y / 1.875, k - 20, 12);
          ASSERT_NEAR(at3(table, t, y * 2 + x, k), want, 1e-5) << t << " " << y << " " << x << " " << k;
        }
      }
    }
  }
}

TEST(Positions, RotaryTableEqualsTheNaiveOne) {
  const Tensor rows = grid_positions(0, 3, 3), columns = grid_positions(1, 6, 5);
  EXPECT_NEAR(columns[0].item<double>(), 1, 1e-6);
  EXPECT_NEAR(columns[4].item<double>(), 4.8, 1e-5);
  const RotaryTable table = rotary_3d(at::arange(2), rows, columns, 16);
  EXPECT_EQ(table.cos.sizes(), at::IntArrayRef({2, 15, 8}));
  const auto angle = [](double position, int64_t i, int64_t width) {
    return position * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(width));
  };
  for (int64_t s = 0; s < 15; ++s) {
    for (int64_t i = 0; i < 8; ++i) {
      const double want = i < 2   ? angle(1, i, 4)
                          : i < 5 ? angle(rows[s / 5].item<double>(), i - 2, 6)
                                  : angle(columns[s % 5].item<double>(), i - 5, 6);
      ASSERT_NEAR(at3(table.cos, 1, s, i), std::cos(want), 1e-5) << s << " " << i;
      ASSERT_NEAR(at3(table.sin, 1, s, i), std::sin(want), 1e-5) << s << " " << i;
    }
  }
}

}  // namespace
}  // namespace kinora::models
