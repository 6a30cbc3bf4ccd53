#include "kinora/ops/attention.h"

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"
#include "kinora/ops/norm.h"

namespace kinora::ops {
namespace {

/// in: q, k, v and, where given, an additive mask that broadcasts to [B, A, N, M].
Tensor naive_attention(const Tensors& in, double scale) {
  const int64_t b = in[0].size(0), a = in[0].size(1), n = in[0].size(2), d = in[0].size(3), m = in[1].size(2),
                dv = in[2].size(3);
  const auto q = values(in[0]), k = values(in[1]), v = values(in[2]);
  const auto mask =
      in.size() > 3 ? values(in[3].expand({b, a, n, m})) : std::vector<double>(static_cast<size_t>(b * a * n * m));
  std::vector<double> out;
  for (int64_t head = 0; head < b * a; ++head) {
    for (int64_t i = 0; i < n; ++i) {
      std::vector<double> weight;
      double total = 0;
      for (int64_t j = 0; j < m; ++j) {
        double dot = 0;
        for (int64_t c = 0; c < d; ++c) dot += q[(head * n + i) * d + c] * k[(head * m + j) * d + c];
        weight.push_back(std::exp(dot * scale + mask[(head * n + i) * m + j]));
        total += weight.back();
      }
      for (int64_t c = 0; c < dv; ++c) {
        double sum = 0;
        for (int64_t j = 0; j < m; ++j) sum += weight[j] / total * v[(head * m + j) * dv + c];
        out.push_back(sum);
      }
    }
  }
  return from_values(out, {b, a, n, dv});
}

Tensor plain(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double scale) {
  Tensor scores = at::matmul(q * scale, k.transpose(-2, -1));
  if (mask.defined()) scores = scores + mask;
  return at::matmul(at::softmax(scores, -1), v);
}

Tensors qkv(int64_t n, int64_t m, int64_t d) {
  return {normal({2, 3, n, d}, 1), normal({2, 3, m, d}, 2), normal({2, 3, m, d}, 3)};
}

TEST(Attention, EqualsALoopForOddSizes) {
  for (const auto& [n, m, d] : {std::array<int64_t, 3>{1, 1, 2}, {3, 17, 5}, {17, 3, 8}, {31, 31, 16}}) {
    SCOPED_TRACE(concat(n, " queries, ", m, " keys, width ", d));
    const double scale = 1 / std::sqrt(static_cast<double>(d));
    expect_operator(
        qkv(n, m, d), [](const Tensors& t) { return attention(t[0], t[1], t[2]); },
        [&](const Tensors& t) { return naive_attention(t, scale); },
        [&](const Tensors& t) { return plain(t[0], t[1], t[2], {}, scale); });
  }
}

TEST(Attention, TakesAScaleAndAnAdditiveMask) {
  Tensors in = qkv(5, 7, 4);
  in.push_back(normal({2, 1, 1, 7}, 4));
  expect_operator(
      in, [](const Tensors& t) { return attention(t[0], t[1], t[2], t[3], 0.3); },
      [](const Tensors& t) { return naive_attention(t, 0.3); },
      [](const Tensors& t) { return plain(t[0], t[1], t[2], t[3], 0.3); });
}

TEST(Attention, BoolMaskTakesPartWhereTrue) {
  const Tensor seen = at::tensor({1, 0, 1, 1, 0, 0, 1}).to(at::kBool).view({1, 1, 1, 7});
  const Tensor additive = at::zeros({1, 1, 1, 7}, at::kDouble).masked_fill(seen.logical_not(), -INFINITY);
  expect_operator(
      qkv(5, 7, 4), [&](const Tensors& t) { return attention(t[0], t[1], t[2], seen.to(t[0].device())); },
      [&](const Tensors& t) {
        return naive_attention({t[0], t[1], t[2], additive}, 0.5);
      },
      [&](const Tensors& t) { return plain(t[0], t[1], t[2], additive.to(t[0].scalar_type()), 0.5); });
}

TEST(Attention, LongRowsInTrainingGiveTheSameGradientsAsShortOnes) {
  // Above 512 rows training leaves the matmuls for the fused kernel.
  const Tensors in{normal({1, 1, 523, 4}, 1), normal({1, 1, 3, 4}, 2), normal({1, 1, 3, 4}, 3)};
  const auto got = gradients(in, [](const Tensors& t) { return attention(t[0], t[1], t[2]); });
  const auto want = gradients(in, [](const Tensors& t) { return plain(t[0], t[1], t[2], {}, 0.5); });
  for (size_t i = 0; i < want.size(); ++i) EXPECT_LE(relative_error(got[i], want[i]), 1e-11);
}

TEST(AttentionPacked, EachSampleSeesItsOwnKeysOnly) {
  const std::vector<int64_t> lengths{3, 1, 7};
  const Tensors in{normal({3, 2, 5, 4}, 1), normal({2, 11, 4}, 2), normal({2, 11, 4}, 3)};
  const auto by_sample = [&](const Tensors& t, const auto& one) {
    std::vector<Tensor> rows;
    int64_t begin = 0;
    for (int64_t b = 0; b < 3; ++b) {
      rows.push_back(one(t[0].narrow(0, b, 1), t[1].narrow(1, begin, lengths[b]).unsqueeze(0),
                         t[2].narrow(1, begin, lengths[b]).unsqueeze(0)));
      begin += lengths[b];
    }
    return at::cat(rows);
  };
  const auto loop = [](const Tensor& q, const Tensor& k, const Tensor& v) { return naive_attention({q, k, v}, 0.5); };
  const auto aten = [](const Tensor& q, const Tensor& k, const Tensor& v) { return plain(q, k, v, {}, 0.5); };
  expect_operator(
      in, [&](const Tensors& t) { return attention_packed(t[0], t[1], t[2], lengths); },
      [&](const Tensors& t) { return by_sample(t, loop); }, [&](const Tensors& t) { return by_sample(t, aten); });
}

TEST(AttentionPacked, ShortCaptionsHaveTheBitsOfAttentionAlone) {
  const c10::InferenceMode inference;
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{5, 5, 5}, {16, 1, 3}}) {
    const int64_t all = lengths[0] + lengths[1] + lengths[2];
    const Tensor q = normal({3, 2, 37, 24}, 1, at::kFloat), k = normal({2, all, 24}, 2, at::kFloat),
                 v = normal({2, all, 24}, 3, at::kFloat);
    const Tensor got = attention_packed(q, k, v, lengths);
    int64_t begin = 0;
    for (int64_t b = 0; b < 3; begin += lengths[b++]) {
      const auto own = [&](const Tensor& t) { return t.narrow(1, begin, lengths[b]).unsqueeze(0); };
      EXPECT_TRUE(got.narrow(0, b, 1).equal(attention(q.narrow(0, b, 1), own(k), own(v)))) << lengths[b] << " keys";
    }
  }
}

TEST(Attention, ShapesThatDoNotFitAreUsageErrors) {
  const Tensor q = normal({2, 3, 5, 4}, 1), k = normal({2, 3, 7, 4}, 2), v = normal({2, 3, 7, 6}, 3);
  EXPECT_NO_THROW(attention(q, k, v, normal({1, 7}, 4)));
  EXPECT_THROW(attention(q[0], k[0], v[0]), UsageError);
  EXPECT_THROW(attention(q, k.narrow(0, 0, 1), v.narrow(0, 0, 1)), UsageError);
  EXPECT_THROW(attention(q, k.narrow(3, 0, 3), v), UsageError);
  EXPECT_THROW(attention(q, k.narrow(2, 0, 6), v), UsageError);
  EXPECT_THROW(attention(q, k, v, normal({5, 6}, 4)), UsageError);
  EXPECT_THROW(attention(q, k, v, normal({1, 1, 1, 1, 7}, 4)), UsageError);
}

TEST(AttentionPacked, LengthsAndShapesThatDoNotFitAreUsageErrors) {
  const Tensor q = normal({2, 1, 3, 4}, 1), k = normal({1, 5, 4}, 2);
  EXPECT_THROW(attention_packed(q[0], k, k, {5}), UsageError);
  EXPECT_THROW(attention_packed(q, k.unsqueeze(0), k, {2, 3}), UsageError);
  EXPECT_THROW(attention_packed(q, k, k.narrow(1, 0, 4), {2, 3}), UsageError);
  EXPECT_THROW(attention_packed(q, k.narrow(2, 0, 3), k, {2, 3}), UsageError);
  EXPECT_THROW(attention_packed(q, k, k, {5}), UsageError);
  EXPECT_THROW(attention_packed(q, k, k, {2, 2}), UsageError);
  EXPECT_THROW(attention_packed(q, k, k, {5, 0}), UsageError);
}

enum class Norm { none, rms, layer };

/// in: x, weight, bias, cos [N, D/2], sin; of which `norm` says what is used.
Tensor naive_qk(const Tensors& in, Norm norm, bool rotates) {
  const int64_t n = in[0].size(2), d = in[0].size(3);
  const auto x = values(in[0]), w = values(in[1]), b = values(in[2]), cos = values(in[3]), sin = values(in[4]);
  std::vector<double> out;
  for (int64_t r = 0; r < in[0].numel() / d; ++r) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < d; ++i) mean += norm == Norm::layer ? x[r * d + i] / static_cast<double>(d) : 0;
    for (int64_t i = 0; i < d; ++i) square += std::pow(x[r * d + i] - mean, 2) / static_cast<double>(d);
    std::vector<double> y;
    for (int64_t i = 0; i < d; ++i) {
      const double normed = (x[r * d + i] - mean) / std::sqrt(square + 1e-6) * w[i] + (norm == Norm::layer ? b[i] : 0);
      y.push_back(norm == Norm::none ? x[r * d + i] : normed);
    }
    for (int64_t i = 0; i < d; ++i) {
      const int64_t at = r % n * (d / 2) + i / 2;
      const double turned = i % 2 == 0 ? y[i] * cos[at] - y[i + 1] * sin[at] : y[i] * cos[at] + y[i - 1] * sin[at];
      out.push_back(rotates ? turned : y[i]);
    }
  }
  return from_values(out, in[0].sizes());
}

Tensor aten_qk(const Tensors& t, Norm norm, bool rotates) {
  Tensor y = t[0];
  if (norm == Norm::rms) y = y * at::rsqrt(y.square().mean(-1, true) + 1e-6) * t[1];
  if (norm == Norm::layer) y = at::layer_norm(y, {y.size(-1)}, t[1], t[2], 1e-6);
  if (!rotates) return y;
  const Tensor a = y.slice(-1, 0, y.size(-1), 2), b = y.slice(-1, 1, y.size(-1), 2);
  return at::stack({a * t[3] - b * t[4], b * t[3] + a * t[4]}, -1).flatten(-2);
}

TEST(QkNormRotary, EqualsALoopForEveryNormWithAndWithoutRotation) {
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{1, 2}, {3, 6}, {17, 10}}) {
    const Tensor angle = normal({n, d / 2}, 4);
    const Tensors in{normal({2, 3, n, d}, 1), normal({d}, 2), normal({d}, 3), angle.cos(), angle.sin()};
    for (const Norm norm : {Norm::none, Norm::rms, Norm::layer}) {
      for (const bool rotates : {true, false}) {
        if (norm == Norm::none && !rotates) continue;
        SCOPED_TRACE(concat("norm ", static_cast<int>(norm), rotates ? " rotates" : ""));
        const auto op = [&](const Tensors& t) {
          std::optional<Tensor> weight, bias, cos, sin;
          if (norm != Norm::none) weight = t[1];
          if (norm == Norm::layer) bias = t[2];
          if (rotates) cos = t[3], sin = t[4];
          return qk_norm_rotary(t[0], weight, bias, 1e-6, cos, sin);
        };
        expect_operator(
            in, op, [&](const Tensors& t) { return naive_qk(t, norm, rotates); },
            [&](const Tensors& t) { return aten_qk(t, norm, rotates); });
      }
    }
  }
}

TEST(QkNormRotary, TablesMayDifferBySample) {
  const Tensor x = normal({2, 3, 5, 4}, 1), angle = normal({2, 1, 5, 2}, 2);
  const Tensor both = qk_norm_rotary(x, std::nullopt, std::nullopt, 0, angle.cos(), angle.sin());
  for (int64_t b = 0; b < 2; ++b) {
    const Tensor own = angle[b][0];
    EXPECT_TRUE(both.narrow(0, b, 1).equal(
        qk_norm_rotary(x.narrow(0, b, 1), std::nullopt, std::nullopt, 0, own.cos(), own.sin())));
  }
}

TEST(QkNormRotary, WithoutNormAndTablesItIsTheInput) {
  const Tensor x = normal({1, 1, 3, 4}, 1);
  EXPECT_TRUE(qk_norm_rotary(x, std::nullopt, std::nullopt, 0, std::nullopt, std::nullopt).is_same(x));
}

}  // namespace
}  // namespace kinora::ops
