// Ring attention against attention of the whole, and its merge where scores are far apart.
#include "kinora/parallel/ring.h"

#include <gtest/gtest.h>

#include "kinora/comm/counts.h"
#include "kinora/comm/threads.h"
#include "kinora/ops/attention.h"
#include "kinora/parallel/block_attention.h"
#include "kinora/tensor/test_values.h"

namespace kinora::parallel {
namespace {

constexpr int kRanks[] = {1, 2, 3, 4, 5, 8};
constexpr int64_t kRows = 11, kText = 3;

Heads drawn(int64_t rows, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  const auto one = [&](uint64_t i) { return normal({2, 3, rows, 8}, seed + i).to(dtype); };
  return {one(0), one(1), one(2)};
}

Heads part_of(const Heads& whole, const std::vector<int64_t>& counts, int rank) {
  const auto cut = [&](const Tensor& t) {
    const auto r = static_cast<size_t>(rank);
    return t.narrow(2, comm::offsets(counts)[r], counts[r]);
  };
  return {cut(whole.q), cut(whole.k), cut(whole.v)};
}

/// {video, text} of one process.
Streams of_one(const Heads& video, const Heads& text) {
  const auto both = [&](Tensor Heads::*part) { return at::cat({text.*part, video.*part}, 2); };
  const Tensor out = ops::attention(both(&Heads::q), both(&Heads::k), both(&Heads::v));
  return {out.narrow(2, kText, kRows), out.narrow(2, 0, kText)};
}

double distance(const Tensor& a, const Tensor& b) {
  return a.numel() == 0 ? 0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST(Merge, OfPartsIsAttentionToAll) {
  const Heads h = drawn(kRows, 1);
  Partial merged;
  for (int64_t begin = 0; begin < kRows; begin += 4) {
    const int64_t n = std::min<int64_t>(4, kRows - begin);
    merged = merge(merged, attend_part(h.q, h.k.narrow(2, begin, n), h.v.narrow(2, begin, n)));
  }
  EXPECT_LT(distance(merged.out, ops::attention(h.q, h.k, h.v)), 1e-14);
  const Tensor scores = at::matmul(h.q, h.k.transpose(-2, -1)) / std::sqrt(8.0);
  EXPECT_LT(distance(merged.lse, scores.logsumexp(-1)), 1e-13);
}

TEST(Merge, IsFiniteWhereScoresLieHundredsApart) {  // exp(88.8) is the end of float32
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Heads h = drawn(kRows, 1, at::kFloat);
    h.q = h.q * 60, h.k = h.k * 60;
    h = {h.q.to(dtype), h.k.to(dtype), h.v.to(dtype)};
    Partial merged;
    for (int64_t row = 0; row < kRows; ++row)
      merged = merge(merged, attend_part(h.q, h.k.narrow(2, row, 1), h.v.narrow(2, row, 1)));
    EXPECT_GT(merged.lse.abs().max().item<double>(), 1000);
    EXPECT_TRUE(merged.out.isfinite().all().item<bool>());
    const Tensor want = ops::attention(h.q.to(at::kDouble), h.k.to(at::kDouble), h.v.to(at::kDouble));
    EXPECT_LT(distance(merged.out, want), 1e-3) << dtype;
  }
}

TEST(Ring, OverAnyRanksIsAttentionOfOne) {
  const Heads video = drawn(kRows, 1), text = drawn(kText, 9);
  const Streams want = of_one(video, text);
  const Tensor alone = ops::attention(video.q, video.k, video.v);
  for (const int n : kRanks) {
    const std::vector<int64_t> counts = comm::even_counts(kRows, n), begins = comm::offsets(counts);
    std::vector<Tensor> texts(static_cast<size_t>(n));
    comm::run_ranks(n, [&](Communicator& group) {
      const auto r = static_cast<size_t>(group.rank());
      const Heads mine = part_of(video, counts, group.rank());
      const Streams got = ring_attention(mine, &text, counts, group, "ring");
      EXPECT_LT(distance(got[0], want[0].narrow(2, begins[r], counts[r])), 1e-14);
      EXPECT_LT(distance(got[1], want[1]), 1e-14);
      texts[r] = got[1];
      EXPECT_LT(
          distance(ring_attention(mine, nullptr, counts, group, "ring")[0], alone.narrow(2, begins[r], counts[r])),
          1e-14);
    });
    for (const Tensor& t : texts) EXPECT_TRUE(t.equal(texts[0])) << "ranks whose text differs drift apart";
  }
}

TEST(Ring, TakesRanksWithoutRowsAndRanksWithoutHeads) {
  const Heads video = drawn(kRows, 1);
  const Tensor want = ops::attention(video.q, video.k, video.v);
  const std::vector<int64_t> counts{5, 0, 6, 0};
  comm::run_ranks(4, [&](Communicator& group) {
    const auto r = static_cast<size_t>(group.rank());
    const Heads mine = part_of(video, counts, group.rank());
    const Tensor got = ring_attention(mine, nullptr, counts, group, "ring")[0];
    EXPECT_LT(distance(got, want.narrow(2, comm::offsets(counts)[r], counts[r])), 1e-14);
    const auto no_head = [](const Tensor& t) { return t.narrow(1, 0, 0); };
    const Heads none{no_head(mine.q), no_head(mine.k), no_head(mine.v)};
    EXPECT_EQ(ring_attention(none, nullptr, counts, group, "ring")[0].sizes(), none.q.sizes());
  });
}

TEST(Ring, InLowPrecisionStaysWithinItsRounding) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const double tolerance = dtype == at::kFloat ? 2e-6 : 2e-2;
    const Heads video = drawn(kRows, 1, dtype), text = drawn(kText, 9, dtype);
    const auto widened = [](const Heads& h) {
      return Heads{h.q.to(at::kDouble), h.k.to(at::kDouble), h.v.to(at::kDouble)};
    };
    const Streams want = of_one(widened(video), widened(text));
    const std::vector<int64_t> counts = comm::even_counts(kRows, 3);
    comm::run_ranks(3, [&](Communicator& group) {
      const auto r = static_cast<size_t>(group.rank());
      const Streams got = ring_attention(part_of(video, counts, group.rank()), &text, counts, group, "ring");
      EXPECT_LT(distance(got[0], want[0].narrow(2, comm::offsets(counts)[r], counts[r])), tolerance);
      EXPECT_LT(distance(got[1], want[1]), tolerance);
      EXPECT_EQ(got[0].scalar_type(), dtype);
    });
  }
}

Heads leaves(const Heads& h) {
  const auto leaf = [](const Tensor& t) { return t.detach().clone().requires_grad_(true); };
  return {leaf(h.q), leaf(h.k), leaf(h.v)};
}

TEST(Ring, HasTheGradientsOfOne) {
  const Heads video = drawn(kRows, 1), text = drawn(kText, 9);
  const Tensor weight = normal({2, 3, kRows, 8}, 20), text_weight = normal({2, 3, kText, 8}, 21);
  const Heads one = leaves(video), one_text = leaves(text);
  const Streams y = of_one(one, one_text);
  ((y[0] * weight).sum() + (y[1] * text_weight).sum()).backward();
  for (const int n : kRanks) {
    const std::vector<int64_t> counts = comm::even_counts(kRows, n);
    std::vector<Heads> texts(static_cast<size_t>(n));
    comm::run_ranks(n, [&](Communicator& group) {
      at::AutoGradMode grad(true);
      const auto r = static_cast<size_t>(group.rank());
      const auto cut = [&](const Tensor& t) { return t.narrow(2, comm::offsets(counts)[r], counts[r]); };
      const Heads mine = leaves(part_of(video, counts, group.rank())), words = leaves(text);
      const Streams got = ring_attention(mine, &words, counts, group, "ring");
      ((got[0] * cut(weight)).sum() + (got[1] * text_weight).sum() / n).backward();
      EXPECT_LT(distance(mine.q.grad(), cut(one.q.grad())), 1e-13) << n;
      EXPECT_LT(distance(mine.k.grad(), cut(one.k.grad())), 1e-13) << n;
      EXPECT_LT(distance(mine.v.grad(), cut(one.v.grad())), 1e-13) << n;
      texts[r] = {words.q.grad(), words.k.grad(), words.v.grad()};
    });
    // Copies of one text: their gradients add up.
    for (const auto part : {&Heads::q, &Heads::k, &Heads::v}) {
      Tensor sum = at::zeros_like(text.q);
      for (const Heads& t : texts) sum = sum + t.*part;
      EXPECT_LT(distance(sum, (one_text.*part).grad()), 1e-13) << n;
    }
  }
}

TEST(Ring, HasGradientsWhereScoresLieThousandsApart) {  // exp(709.8) is the end of float64
  Heads video = drawn(kRows, 1);
  video.q = video.q * 60, video.k = video.k * 60;
  const Tensor weight = normal({2, 3, kRows, 8}, 20);
  const Heads one = leaves(video);
  (ops::attention(one.q, one.k, one.v) * weight).sum().backward();
  const std::vector<int64_t> counts = comm::even_counts(kRows, 3);
  comm::run_ranks(3, [&](Communicator& group) {
    at::AutoGradMode grad(true);
    const auto r = static_cast<size_t>(group.rank());
    const auto cut = [&](const Tensor& t) { return t.narrow(2, comm::offsets(counts)[r], counts[r]); };
    const Heads mine = leaves(part_of(video, counts, group.rank()));
    (ring_attention(mine, nullptr, counts, group, "ring")[0] * cut(weight)).sum().backward();
    for (const auto part : {&Heads::q, &Heads::k, &Heads::v})
      EXPECT_LT(distance((mine.*part).grad(), cut((one.*part).grad())), 1e-9);
  });
}

TEST(Parts, ByProductsAreAsFused) {
  for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, 1e-13}, std::pair{at::kFloat, 1e-5}}) {
    const Heads h = drawn(kRows, 1, dtype);
    const Tensor grad = normal({2, 3, kRows, 8}, 7).to(dtype), k = h.k.narrow(2, 2, 5), v = h.v.narrow(2, 2, 5);
    const Partial part = attend_part(h.q, k, v), same = attend_part_by_products(h.q, k, v);
    EXPECT_LT(distance(part.out, same.out), tolerance);
    EXPECT_LT(distance(part.lse, same.lse), tolerance);
    const Partial whole = attend_part(h.q, h.k, h.v);
    const PartGradients got = attend_part_backward(grad, h.q, k, v, whole),
                        want = attend_part_backward_by_products(grad, h.q, k, v, whole);
    EXPECT_LT(distance(got.q, want.q), tolerance);
    EXPECT_LT(distance(got.k, want.k), tolerance);
    EXPECT_LT(distance(got.v, want.v), tolerance);
  }
}

}  // namespace
}  // namespace kinora::parallel
