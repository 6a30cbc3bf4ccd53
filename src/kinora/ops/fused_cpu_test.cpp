#include "kinora/ops/fused_cpu.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/ops/attention.h"
#include "kinora/ops/check_operator.h"
#include "kinora/ops/fused_rows.h"
#include "kinora/ops/linear.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/residual.h"

namespace kinora::ops {
namespace {

/// One rounding to the dtype, and float32 before it.
constexpr DTypeRow kKernelDTypes[] = {{at::kFloat, 2e-6}, {at::kBFloat16, 4e-3}};
constexpr int64_t kWidths[] = {1, 2, 15, 16, 17, 72, 97, 1152};

TEST(FusedCpu, LayerNormEqualsFloat64WithEveryPartAndWidth) {
  for (const auto& [dtype, tolerance] : kKernelDTypes) {
    for (const int64_t c : kWidths) {
      SCOPED_TRACE(concat(dtype, " ", c));
      const auto made = [&, type = dtype](at::IntArrayRef shape, uint64_t seed) {
        return normal(shape, seed).to(type);
      };
      const Tensor x = made({2, 3, 5, c}, 1), w = made({c}, 2), b = made({c}, 3), scale = made({2, 3, 1, c}, 4),
                   shift = made({2, 1, 1, c}, 5);
      const auto wide = [](const Tensor& t) { return t.to(at::kDouble); };
      for (int parts = 0; parts < 16; ++parts) {
        const auto take = [&](int bit, const Tensor& t) { return parts & bit ? cpu::MaybeTensor(t) : std::nullopt; };
        const auto got = cpu::layer_norm(x, take(1, w), take(2, b), take(4, scale), take(8, shift), 1e-3);
        ASSERT_TRUE(got.has_value());
        Tensor want = at::layer_norm(wide(x), {c}, {}, {}, 1e-3);
        if (parts & 1) want = want * wide(w);
        if (parts & 2) want = want + wide(b);
        if (parts & 4) want = want * (1 + wide(scale));
        if (parts & 8) want = want + wide(shift);
        EXPECT_LE(relative_error(*got, want), tolerance) << "parts " << parts;
      }
    }
  }
}

TEST(FusedCpu, GeluEqualsFloat64OverItsWholeRange) {
  for (const auto& [dtype, tolerance] : kKernelDTypes) {
    const Tensor x = at::linspace(-12, 12, 10007, at::kDouble).to(dtype);
    const Tensor got = *cpu::gelu_tanh(x), want = at::gelu(x.to(at::kDouble), "tanh");
    EXPECT_LE((got.to(at::kDouble) - want).abs().div(want.abs() + 1e-3).max().item<double>(), tolerance) << dtype;
    EXPECT_NEAR(cpu::gelu_tanh(at::full({3}, -1e30, dtype))->select(0, 1).item<double>(), 0, 1e-6);
    EXPECT_TRUE(std::isnan(cpu::gelu_tanh(at::full({3}, NAN, dtype))->select(0, 1).item<double>()));
    EXPECT_TRUE(std::isinf(cpu::gelu_tanh(at::full({3}, INFINITY, dtype))->select(0, 1).item<double>()));
  }
}

TEST(FusedCpu, ResidualGivesTheBitsOfAten) {
  for (const auto& row : kKernelDTypes) {
    for (const int64_t c : kWidths) {
      const Tensor x = normal({2, 3, 5, c}, 1).to(row.dtype), gate = normal({2, 1, 1, c}, 3).to(row.dtype);
      const Tensor y = normal({2, 5, 3, c}, 2).to(row.dtype).transpose(1, 2);
      EXPECT_TRUE(cpu::add_residual(x, y, gate)->equal(x + y * gate)) << row.dtype << " " << c;
      EXPECT_TRUE(cpu::add_residual(x, y, std::nullopt)->equal(x + y)) << row.dtype << " " << c;
    }
  }
}

/// Queries as a linear layer leaves them: heads inside of the rows, between those of keys and values.
Tensor inside(int64_t rows, int64_t heads, int64_t width, at::ScalarType dtype) {
  return normal({2, rows, 3, heads, width}, 9).to(dtype).select(2, 1).transpose(1, 2);
}

TEST(FusedCpu, QueriesThatLieInsideTheRowsStayThere) {
  for (const auto& [dtype, tolerance] : kKernelDTypes) {
    for (const int64_t d : {2, 6, 16, 72, 98}) {
      SCOPED_TRACE(concat(dtype, " ", d));
      const Tensor x = inside(5, 3, d, dtype), weight = normal({d}, 2).to(dtype), angle = normal({5, d / 2}, 3);
      for (const auto& table : {dtype, at::kFloat}) {
        const Tensor cos = angle.cos().to(table), sin = angle.sin().to(table);
        const Tensor got = qk_norm_rotary(x, weight, std::nullopt, 1e-6, cos, sin);
        const auto wide = [](const Tensor& t) { return t.to(at::kDouble); };
        EXPECT_LE(relative_error(got, qk_norm_rotary(wide(x), wide(weight), std::nullopt, 1e-6, wide(cos), wide(sin))),
                  tolerance);
        EXPECT_TRUE(got.transpose(1, 2).is_contiguous());
        EXPECT_EQ(qk_norm_rotary(x.to(at::kMeta), weight.to(at::kMeta), std::nullopt, 1e-6, cos.to(at::kMeta),
                                 sin.to(at::kMeta))
                      .strides(),
                  got.strides());
      }
      EXPECT_TRUE(
          qk_norm_rotary(x, weight, std::nullopt, 1e-6, std::nullopt, std::nullopt).transpose(1, 2).is_contiguous());
    }
  }
}

TEST(FusedCpu, ShortAttentionEqualsFloat64AndKeepsTheOrderOfTheQueries) {
  for (const auto& [dtype, tolerance] : kKernelDTypes) {
    for (const auto& [n, m] : {std::pair<int64_t, int64_t>{1, 1}, {5, 5}, {3, 16}, {40, 7}}) {
      for (const int64_t d : {1, 8, 72, 97}) {
        SCOPED_TRACE(concat(dtype, " ", n, " ", m, " ", d));
        const Tensor q = inside(n, 3, d, dtype), k = inside(m, 3, d, dtype), v = normal({2, 3, m, d}, 4).to(dtype);
        const auto wide = [](const Tensor& t) { return t.to(at::kDouble); };
        const Tensor got = *cpu::short_attention(q, k, v, 0.3);
        const Tensor scores = at::matmul(wide(q) * 0.3, wide(k).transpose(-2, -1));
        EXPECT_LE(relative_error(got, at::matmul(at::softmax(scores, -1), wide(v))), tolerance);
        EXPECT_EQ(attention(q.to(at::kMeta), k.to(at::kMeta), v.to(at::kMeta)).strides(), got.strides());
      }
    }
  }
  const Tensor many = normal({1, 1, 17, 4}, 1).to(at::kFloat);
  EXPECT_FALSE(cpu::short_attention(many, many, many, std::nullopt).has_value());
}

TEST(FusedCpu, RowsHaveTheSameBitsInEveryBatchAndOnEveryNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const auto& row : kKernelDTypes) {
    const Tensor x = normal({7, 61, 97}, 1).to(row.dtype), scale = normal({7, 1, 97}, 2).to(row.dtype);
    const auto work = [&](const Tensor& part, const Tensor& by) {
      const Tensor y = *cpu::gelu_tanh(*cpu::layer_norm(part, std::nullopt, std::nullopt, by, by, 1e-6));
      const Tensor heads = y.narrow(2, 0, 96).unflatten(2, {4, 24}).transpose(1, 2);
      return *cpu::short_attention(heads, heads.narrow(2, 0, 5), heads.narrow(2, 5, 5), std::nullopt);
    };
    at::set_num_threads(1);
    const Tensor whole = work(x, scale);
    for (int64_t b = 0; b < 7; ++b)
      EXPECT_TRUE(work(x.narrow(0, b, 1), scale.narrow(0, b, 1)).equal(whole.narrow(0, b, 1))) << row.dtype;
    at::set_num_threads(2);
    EXPECT_TRUE(work(x, scale).equal(whole)) << row.dtype;
    const Tensor values = x.flatten();
    EXPECT_TRUE(cpu::gelu_tanh(values.narrow(0, 5, 1001).clone())->equal(cpu::gelu_tanh(values)->narrow(0, 5, 1001)));
  }
  at::set_num_threads(before);
}

TEST(FusedCpu, EveryProcessorsKernelsAgree) {
  std::vector<const AllRowKernels*> sets{&baseline::kRowKernels};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(&avx2::kRowKernels);
#endif
  const int64_t rows = 6, c = 46;
  const Tensor x = normal({rows, c}, 1).to(at::kFloat), gate = normal({c}, 2).to(at::kFloat),
               angle = normal({rows, c / 2}, 3).to(at::kFloat);
  const Tensor cos = angle.cos(), sin = angle.sin(),
               wanted_norm = *cpu::layer_norm(x, gate, std::nullopt, std::nullopt, std::nullopt, 1e-6);
  const Tensor wanted_heads = *cpu::qk_norm_rotary(x.unsqueeze(0), gate, std::nullopt, 1e-6, cos, sin);
  const Tensor wanted_attention =
      *cpu::short_attention(x.view({1, 1, rows, c}), x.view({1, 1, rows, c}), x.view({1, 1, rows, c}), 0.2);
  const auto all = [&](const Tensor& t, int64_t width) {
    Rows<float> r{.data = t.const_data_ptr<float>(), .dims = 1};
    r.sizes[0] = rows, r.strides[0] = t.dim() > 1 ? width : 0;
    return r;
  };
  for (const AllRowKernels* set : sets) {
    const RowKernels<float>& k = set->float32;
    std::vector<float> scratch(1024);
    Tensor out = at::empty_like(x);
    float* const to = out.mutable_data_ptr<float>();
    const float *const from = x.const_data_ptr<float>(), *const weight = gate.const_data_ptr<float>();
    k.layer_norm({.x = all(x, c),
                  .scale = {},
                  .shift = {},
                  .weight = weight,
                  .bias = nullptr,
                  .out = to,
                  .width = c,
                  .eps = 1e-6F},
                 scratch.data(), 0, rows);
    EXPECT_LE(relative_error(out, wanted_norm), 1e-6);
    k.norm_rotary({.x = all(x, c),
                   .weight = weight,
                   .bias = nullptr,
                   .cos = all(cos, c / 2),
                   .sin = all(sin, c / 2),
                   .out = to,
                   .width = c,
                   .eps = 1e-6F},
                  scratch.data(), 0, rows);
    EXPECT_LE(relative_error(out, wanted_heads[0]), 1e-6);
    k.gelu_tanh(from, to, x.numel());
    EXPECT_LE(relative_error(out, at::gelu(x, "tanh")), 1e-6);
    k.add_residual({.x = from, .y = all(x, c), .gate = all(gate, c), .out = to, .width = c}, 0, rows);
    EXPECT_TRUE(out.equal(x + x * gate));
    k.short_attention({.q = from,
                       .k = from,
                       .v = from,
                       .out = to,
                       .q_strides = {0, 0, c},
                       .k_strides = {0, 0, c},
                       .v_strides = {0, 0, c},
                       .out_strides = {0, 0, c},
                       .heads = 1,
                       .queries = rows,
                       .keys = rows,
                       .width = c,
                       .scale = 0.2F},
                      scratch.data(), 0, 1);
    EXPECT_LE(relative_error(out, wanted_attention[0][0]), 1e-6);
    Tensor narrow = at::empty({rows, c}, at::kBFloat16);
    const Tensor half = x.to(at::kBFloat16);
    set->bfloat16.gelu_tanh(static_cast<const BFloat16*>(half.const_data_ptr()),
                            static_cast<BFloat16*>(narrow.mutable_data_ptr()), x.numel());
    EXPECT_LE(relative_error(narrow, at::gelu(half.to(at::kDouble), "tanh")), 4e-3);
  }
}

TEST(FusedCpu, WhatHasNoKernelTakesTheReference) {
  const Tensor wide = normal({2, 3, 4}, 1), x = wide.to(at::kFloat), strided = x.transpose(1, 2);
  EXPECT_FALSE(cpu::layer_norm(wide, std::nullopt, std::nullopt, std::nullopt, std::nullopt, 1e-6).has_value());
  EXPECT_FALSE(cpu::layer_norm(strided, std::nullopt, std::nullopt, std::nullopt, std::nullopt, 1e-6).has_value());
  EXPECT_FALSE(cpu::gelu_tanh(wide).has_value());
  EXPECT_FALSE(cpu::gelu_tanh(x.narrow(0, 0, 0)).has_value());
  EXPECT_FALSE(cpu::add_residual(strided, strided, std::nullopt).has_value());
  EXPECT_FALSE(cpu::add_residual(x, x, normal({2, 3, 1}, 2).to(at::kFloat)).has_value());
  EXPECT_TRUE(add_residual(strided, strided).equal(strided + strided));
}

}  // namespace
}  // namespace kinora::ops
