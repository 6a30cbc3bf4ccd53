// Operators on nothing: a rank may own no rows, or no heads.
#include <gtest/gtest.h>

#include "kinora/ops/attention.h"
#include "kinora/ops/linear.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/residual.h"

namespace kinora::ops {
namespace {

/// f of tensors of these shapes has `shape`, with and without gradients, in the dtypes that have kernels of their own.
template <typename F>
void expect_shape(const std::vector<std::vector<int64_t>>& shapes, at::IntArrayRef shape, const F& f) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const bool with_grad : {false, true}) {
      const at::AutoGradMode grad(with_grad);
      std::vector<Tensor> in;
      for (const auto& sizes : shapes) in.push_back(at::rand(sizes, at::kDouble).to(dtype).requires_grad_(with_grad));
      const Tensor out = f(in);
      EXPECT_EQ(out.sizes(), shape) << dtype;
      EXPECT_EQ(out.scalar_type(), dtype);
      if (!with_grad) continue;
      out.sum().backward();
      for (const Tensor& t : in) EXPECT_TRUE(t.grad().defined() && t.grad().abs().sum().item<double>() == 0) << dtype;
    }
  }
}

using In = const std::vector<Tensor>&;

TEST(Operators, TakeNoRows) {
  expect_shape({{2, 0, 16}, {8, 16}, {8}}, {2, 0, 8}, [](In t) { return ops::linear(t[0], t[1], t[2]); });
  expect_shape({{2, 0, 9, 16}}, {2, 0, 9, 16}, [](In t) { return activate(t[0], Activation::gelu_tanh); });
  expect_shape({{2, 0, 9, 16}, {2, 1, 1, 16}, {2, 1, 1, 16}}, {2, 0, 9, 16},
               [](In t) { return layer_norm(t[0], std::nullopt, std::nullopt, t[1], t[2], 1e-6); });
  expect_shape({{2, 0, 16}, {16}}, {2, 0, 16}, [](In t) { return rms_norm(t[0], t[1], 1e-6); });
  expect_shape({{2, 0, 9, 16}, {2, 0, 9, 16}, {2, 1, 1, 16}}, {2, 0, 9, 16},
               [](In t) { return add_residual(t[0], t[1], t[2]); });
  for (const int64_t keys : {7, 600}) {
    expect_shape({{2, 3, 0, 16}, {2, 3, keys, 16}, {2, 3, keys, 16}}, {2, 3, 0, 16},
                 [](In t) { return attention(t[0], t[1], t[2]); });
    expect_shape({{2, 3, 0, 16}, {3, keys, 16}, {3, keys, 16}}, {2, 3, 0, 16}, [&](In t) {
      return attention_packed(t[0], t[1], t[2], {4, keys - 4});
    });
  }
  expect_shape({{2, 3, 0, 16}, {16}}, {2, 3, 0, 16}, [](In t) {
    const Tensor table = at::rand({0, 8}, t[0].options().requires_grad(false));
    return qk_norm_rotary(t[0], t[1], std::nullopt, 1e-6, table, table);
  });
}

TEST(Operators, TakeNoHeads) {
  expect_shape({{2, 5, 16}, {0, 16}}, {2, 5, 0}, [](In t) { return ops::linear(t[0], t[1], std::nullopt); });
  expect_shape({{2, 5, 0}, {16, 0}}, {2, 5, 16}, [](In t) { return ops::linear(t[0], t[1], std::nullopt); });
  for (const int64_t rows : {7, 600}) {
    expect_shape({{2, 0, rows, 16}, {2, 0, rows, 16}, {2, 0, rows, 16}}, {2, 0, rows, 16},
                 [](In t) { return attention(t[0], t[1], t[2]); });
  }
  expect_shape({{2, 0, 5, 16}, {16}}, {2, 0, 5, 16},
               [](In t) { return qk_norm_rotary(t[0], t[1], std::nullopt, 1e-6, std::nullopt, std::nullopt); });
}

}  // namespace
}  // namespace kinora::ops
