#include "kinora/ops/linear.h"

#include <ATen/core/grad_mode.h>

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"

namespace kinora::ops {
namespace {

Tensor naive_linear(const Tensors& in) {
  const int64_t wide = in[1].size(1), out = in[1].size(0), rows = in[0].numel() / wide;
  const auto x = values(in[0]), w = values(in[1]);
  const auto b = in.size() > 2 ? values(in[2]) : std::vector<double>(static_cast<size_t>(out));
  std::vector<double> y;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double sum = b[o];
      for (int64_t i = 0; i < wide; ++i) sum += x[r * wide + i] * w[o * wide + i];
      y.push_back(sum);
    }
  }
  auto shape = in[0].sizes().vec();
  shape.back() = out;
  return from_values(y, shape);
}

TEST(Linear, EqualsALoopWithAndWithoutBias) {
  for (const int64_t rows : {1, 3, 17}) {
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{1, 1}, {3, 17}, {31, 5}}) {
      SCOPED_TRACE(concat(rows, " rows, ", in, " -> ", out));
      const Tensors inputs{normal({2, rows, in}, 1), normal({out, in}, 2), normal({out}, 3)};
      expect_operator(
          inputs, [](const Tensors& t) { return ops::linear(t[0], t[1], t[2]); }, naive_linear,
          [](const Tensors& t) { return at::linear(t[0], t[1], t[2]); });
      expect_operator(
          {inputs[0], inputs[1]}, [](const Tensors& t) { return ops::linear(t[0], t[1], std::nullopt); }, naive_linear,
          [](const Tensors& t) { return at::linear(t[0], t[1]); });
    }
  }
}

struct ActivationRow {
  Activation activation;
  double (*one)(double);
  Tensor (*aten)(const Tensor&);
};

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double gelu_tanh(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double relu(double x) { return x > 0 ? x : 0; }

TEST(Activate, EqualsItsFormula) {
  const ActivationRow rows[] = {{Activation::silu, silu, [](const Tensor& x) { return at::silu(x); }},
                                {Activation::gelu, gelu, [](const Tensor& x) { return at::gelu(x); }},
                                {Activation::gelu_tanh, gelu_tanh, [](const Tensor& x) { return at::gelu(x, "tanh"); }},
                                {Activation::relu, relu, [](const Tensor& x) { return at::relu(x); }}};
  for (const auto& row : rows) {
    SCOPED_TRACE(static_cast<int64_t>(row.activation));
    const auto naive = [&](const Tensors& t) {
      std::vector<double> y;
      for (const double x : values(t[0])) y.push_back(row.one(x));
      return from_values(y, t[0].sizes());
    };
    for (const int64_t n : {1, 3, 17, 101}) {
      expect_operator(
          {normal({3, n}, 7) * 3}, [&](const Tensors& t) { return activate(t[0], row.activation); }, naive,
          [&](const Tensors& t) { return row.aten(t[0]); });
    }
  }
}

TEST(Activate, NoneIsTheInputItself) {
  const Tensor x = normal({3}, 1);
  EXPECT_TRUE(activate(x, Activation::none).is_same(x));
}

TEST(Activate, ValueThatIsNoActivationIsAUsageError) {
  EXPECT_THROW(activate(normal({3}, 1), static_cast<Activation>(9)), UsageError);
  EXPECT_THROW(activate(normal({3}, 1).set_requires_grad(true), static_cast<Activation>(-1)), UsageError);
}

TEST(Linear, NoGradGuardLeavesNoGraph) {
  const Tensor w = normal({3, 5}, 1).set_requires_grad(true);
  EXPECT_TRUE(ops::linear(normal({2, 5}, 2), w, std::nullopt).requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(ops::linear(normal({2, 5}, 2), w, std::nullopt).requires_grad());
}

}  // namespace
}  // namespace kinora::ops
