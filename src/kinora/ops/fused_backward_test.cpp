#include "kinora/ops/fused_backward.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>

#include "kinora/base/error.h"
#include "kinora/ops/attention.h"
#include "kinora/ops/check_operator.h"
#include "kinora/ops/linear.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/residual.h"

namespace kinora::ops {
namespace {

constexpr DTypeRow kKernelDTypes[] = {{at::kFloat, 1e-5}, {at::kBFloat16, 8e-3}};

/// As gradients(), from numbers that every dtype holds.
Tensors gradients_of_exact(const Tensors& inputs, const Call& call) {
  return gradients(inputs, [&](const Tensors& t) -> Tensor {
    const Tensor out = call(t);
    if (out.scalar_type() == at::kBFloat16) return out;
    const Tensor whole = at::cos(at::arange(out.numel(), at::kDouble)).to(out.scalar_type());
    const Tensor rounded = whole.to(at::kBFloat16).to(out.scalar_type());
    return out * (rounded / whole).view(out.sizes());
  });
}

/// Gradients of an operator in float32 and bfloat16 are float64's of the same numbers, and came in one pass: their
/// graph has one node. The same bits come with one thread and with more.
void expect_gradients(const Tensors& inputs, const Call& op) {
  for (const auto& [dtype, tolerance] : kKernelDTypes) {
    SCOPED_TRACE(c10::toString(dtype));
    const Tensors narrow = cast(inputs, dtype);
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const Tensors got = gradients_of_exact(narrow, op), want = gradients_of_exact(cast(narrow, at::kDouble), op);
    at::set_num_threads(3);
    const Tensors again = gradients_of_exact(narrow, op);
    at::set_num_threads(threads);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(got[i].scalar_type(), dtype);
      EXPECT_LE(relative_error(got[i], want[i]), tolerance) << "gradient " << i;
      EXPECT_TRUE(got[i].equal(again[i])) << "gradient " << i << " depends on the number of threads";
    }
  }
}

/// The operator's own node, not ATen's: no further input is a sum or a product.
void expect_one_pass(const Tensor& out, const std::string& node) {
  ASSERT_TRUE(out.grad_fn());
  EXPECT_NE(out.grad_fn()->name().find(node), std::string::npos) << out.grad_fn()->name();
}

using cpu::MaybeTensor;

MaybeTensor maybe(bool given, const Tensors& in, size_t i) { return given ? MaybeTensor(in[i]) : std::nullopt; }

TEST(FusedBackward, LayerNormForEveryPartAndWidth) {
  for (const int64_t c : {2, 15, 16, 17, 72, 224}) {
    for (int parts = 0; parts < 4; ++parts) {
      SCOPED_TRACE(concat(c, " parts ", parts));
      for (const auto& shape : {std::vector<int64_t>{2, 1, 1, c}, {2, 3, 1, c}, {2, 3, 5, c}, {c}}) {
        const Tensor x = normal({2, 3, 5, c}, 1), scale = normal(shape, 2), shift = normal(shape, 3);
        const Tensors all{x, scale, shift}, one{x, parts & 1 ? scale : shift}, none{x};
        expect_gradients(parts == 3 ? all
                         : parts    ? one
                                    : none,
                         [&](const Tensors& t) {
                           return layer_norm(t[0], std::nullopt, std::nullopt, maybe(parts & 1, t, 1),
                                             maybe(parts & 2, t, parts & 1 ? 2 : 1), 1e-3);
                         });
      }
    }
  }
}

TEST(FusedBackward, SumsOverMoreRowsThanAChunkHas) {
  const Tensors in{normal({2, 300, 3, 24}, 1), normal({2, 1, 1, 24}, 2), normal({2, 1, 1, 24}, 3)};
  expect_gradients(in, [](const Tensors& t) { return layer_norm(t[0], std::nullopt, std::nullopt, t[1], t[2], 1e-6); });
  expect_gradients({normal({2, 900, 24}, 1), normal({2, 900, 24}, 2), normal({2, 1, 24}, 3)},
                   [](const Tensors& t) { return add_residual(t[0], t[1], t[2]); });
  expect_gradients({normal({3, 1000, 8}, 1), normal({8}, 2)}, [](const Tensors& t) {
    return qk_norm_rotary(t[0], t[1], std::nullopt, 1e-6, std::nullopt, std::nullopt);
  });
}

TEST(FusedBackward, ResidualWithAGateForSamplesAndFrames) {
  for (const int64_t c : {1, 15, 16, 33, 224}) {
    SCOPED_TRACE(c);
    for (const auto& shape : {std::vector<int64_t>{2, 1, 1, c}, {2, 3, 1, c}, {c}}) {
      expect_gradients({normal({2, 3, 5, c}, 1), normal({2, 3, 5, c}, 2), normal(shape, 3)},
                       [](const Tensors& t) { return add_residual(t[0], t[1], t[2]); });
    }
  }
}

TEST(FusedBackward, GeluOverItsWholeRange) {
  expect_gradients({at::linspace(-12, 12, 10007, at::kDouble)},
                   [](const Tensors& t) { return activate(t[0], Activation::gelu_tanh); });
  expect_gradients({normal({5, 7, 3}, 1)}, [](const Tensors& t) {
    return activate(t[0], Activation::gelu_tanh).transpose(0, 2).contiguous();  // a gradient in another order
  });
}

TEST(FusedBackward, NormAndRotationOfHeads) {
  const double scale = 0.7;
  for (const int64_t d : {2, 6, 16, 32, 72}) {
    for (int parts = 1; parts < 4; ++parts) {
      SCOPED_TRACE(concat(d, " parts ", parts));
      const Tensor angles = normal({5, d / 2}, 7) * scale;
      // Of one linear layer's rows: [2, 5, 3, heads, d]
      const auto call = [&](const Tensors& t, bool inside) {
        const auto table = [&](const Tensor& of) {
          return parts & 2 ? MaybeTensor(of.to(t[0].scalar_type())) : std::nullopt;
        };
        const Tensor heads = t[0].select(2, 1).transpose(1, 2);
        return qk_norm_rotary(inside ? heads : heads.contiguous(), maybe(parts & 1, t, 1), std::nullopt, 1e-6,
                              table(angles.cos()), table(angles.sin()));
      };
      const Tensor x = normal({2, 5, 3, 4, d}, 1), weight = normal({d}, 2);
      const Tensors both{x, weight}, one{x}, in = parts & 1 ? both : one;
      for (const bool inside : {false, true}) {
        for (const auto& [dtype, tolerance] : kKernelDTypes) {
          const Tensors narrow = cast(in, dtype);
          const Call f = [&](const Tensors& t) { return call(t, inside); };
          const Tensors got = gradients_of_exact(narrow, f);
          // Tables round with the dtype: float64 takes the rounded ones.
          const auto rounded = [&, type = dtype](const Tensor& of) {
            return parts & 2 ? MaybeTensor(of.to(type).to(at::kDouble)) : std::nullopt;
          };
          const Tensors want = gradients_of_exact(cast(narrow, at::kDouble), [&](const Tensors& t) {
            return qk_norm_rotary(t[0].select(2, 1).transpose(1, 2), maybe(parts & 1, t, 1), std::nullopt, 1e-6,
                                  rounded(angles.cos()), rounded(angles.sin()));
          });
          for (size_t i = 0; i < want.size(); ++i) {
            EXPECT_LE(relative_error(got[i], want[i]), tolerance) << dtype << " gradient " << i;
          }
        }
      }
    }
  }
}

TEST(FusedBackward, AttentionForOddNumbersOfQueriesAndKeys) {
  for (const int64_t queries : {1, 3, 4, 6, 37}) {
    for (const int64_t keys : {1, 6, 16, 17, 36, 64}) {
      for (const int64_t d : {1, 15, 32, 64}) {
        SCOPED_TRACE(concat(queries, " over ", keys, " width ", d));
        expect_gradients({normal({2, queries, 3, d}, 1), normal({2, 3, keys, d}, 2), normal({2, 3, keys, d}, 3)},
                         [](const Tensors& t) { return attention(t[0].transpose(1, 2), t[1], t[2]); });
      }
    }
  }
}

TEST(FusedBackward, PackedAttentionWithEachSamplesOwnKeys) {
  for (const auto& lengths : {std::vector<int64_t>{3, 20, 1}, std::vector<int64_t>{5, 5, 5}}) {
    const int64_t total = lengths[0] + lengths[1] + lengths[2];
    const Tensors in{normal({3, 9, 2, 16}, 1), normal({total, 2, 16}, 2), normal({total, 2, 16}, 3)};
    expect_gradients(in, [&](const Tensors& t) {
      return attention_packed(t[0].transpose(1, 2), t[1].transpose(0, 1), t[2].transpose(0, 1), lengths);
    });
  }
}

TEST(FusedBackward, TakesTheGradientInWhateverOrderItComes) {
  const Tensor x = normal({2, 4, 6}, 1).to(at::kFloat).requires_grad_(true);
  const Tensor y = layer_norm(x, std::nullopt, std::nullopt, std::nullopt, std::nullopt, 1e-6);
  y.backward(at::ones({}, at::kFloat).expand({2, 4, 6}));  // no stride at all
  EXPECT_LE(x.grad().abs().max().item<double>(), 1e-6) << "a norm's rows sum to zero whatever x is";
}

TEST(FusedBackward, IsOneNodeOfTheGraphForFloatAndPartsForDouble) {
  const auto leaf = [](at::IntArrayRef shape, at::ScalarType dtype) {
    return normal(shape, 1).to(dtype).requires_grad_(true);
  };
  const Tensor x = leaf({2, 3, 8}, at::kBFloat16), gate = leaf({2, 1, 8}, at::kBFloat16);
  expect_one_pass(layer_norm(x, std::nullopt, std::nullopt, gate, gate, 1e-6), "LayerNormFunction");
  expect_one_pass(add_residual(x, x, gate), "GatedResidual");
  expect_one_pass(activate(x, Activation::gelu_tanh), "GeluTanh");
  const Tensor wide = leaf({2, 3, 8}, at::kDouble);
  expect_one_pass(add_residual(wide, wide, wide), "AddBackward");
  // A scale for neither samples nor frames has no run of rows of its own.
  expect_one_pass(layer_norm(x, std::nullopt, std::nullopt, leaf({1, 3, 8}, at::kBFloat16), std::nullopt, 1e-6), "Mul");
}

TEST(FusedBackward, RefusesToBeDifferentiated) {
  const auto refuses = [](const Tensor& x, const Tensor& y) {
    EXPECT_THROW(torch::autograd::grad({y.sum()}, {x}, {}, true, true), UsageError);
  };
  const Tensor x = normal({2, 3, 8}, 1).to(at::kFloat).requires_grad_(true);
  refuses(x, layer_norm(x, std::nullopt, std::nullopt, std::nullopt, std::nullopt, 1e-6));
  refuses(x, add_residual(x, x, x));
  refuses(x, activate(x, Activation::gelu_tanh));
  const Tensor heads = x.view({1, 2, 3, 8});
  refuses(x, attention(heads, heads, heads));
  refuses(x, qk_norm_rotary(x, at::ones({8}), std::nullopt, 1e-6, std::nullopt, std::nullopt));
}

}  // namespace
}  // namespace kinora::ops
