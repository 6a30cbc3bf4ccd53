#include "kinora/ops/unpatchify.h"

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"
#include "kinora/ops/patchify.h"

namespace kinora::ops {
namespace {

struct Row {
  std::vector<int64_t> patch, size;
  int64_t channels;
};
const Row kRows[] = {
    {{1, 2, 2}, {3, 4, 6}, 5}, {{1, 2, 2}, {1, 7, 3}, 1}, {{2, 3, 1}, {5, 7, 2}, 3}, {{1, 1, 1}, {1, 1, 1}, 1}};

std::vector<int64_t> shape_of(const Row& r) {
  const auto patches = [&](int d) { return (r.size[d] + r.patch[d] - 1) / r.patch[d]; };
  return {2, patches(0), patches(1) * patches(2), r.patch[0] * r.patch[1] * r.patch[2] * r.channels};
}

/// Pixel by pixel: which row holds it, and where in its patch.
Tensor naive(const Tensor& rows, const Row& r) {
  const auto in = values(rows);
  const auto& [pt, ph, pw] = std::tie(r.patch[0], r.patch[1], r.patch[2]);
  const int64_t wide = (r.size[2] + pw - 1) / pw, each = rows.size(3);
  std::vector<double> out;
  for (int64_t b = 0; b < rows.size(0); ++b)
    for (int64_t c = 0; c < r.channels; ++c)
      for (int64_t t = 0; t < r.size[0]; ++t)
        for (int64_t i = 0; i < r.size[1]; ++i)
          for (int64_t j = 0; j < r.size[2]; ++j) {
            const int64_t row = (b * rows.size(1) + t / pt) * rows.size(2) + i / ph * wide + j / pw;
            const int64_t within = (t % pt * ph + i % ph) * pw + j % pw;
            out.push_back(in[row * each + within * r.channels + c]);
          }
  return from_values(out, {rows.size(0), r.channels, r.size[0], r.size[1], r.size[2]});
}

TEST(Unpatchify, EqualsALoopOverPixels) {
  for (const Row& r : kRows) {
    SCOPED_TRACE(concat(at::IntArrayRef(r.patch), " into ", at::IntArrayRef(r.size)));
    const auto aten = [&](const Tensors& t) {
      const auto shape = shape_of(r);
      const int64_t w = (r.size[2] + r.patch[2] - 1) / r.patch[2];
      const Tensor split = t[0].view({2, shape[1], shape[2] / w, w, r.patch[0], r.patch[1], r.patch[2], r.channels});
      const Tensor video = split.permute({0, 7, 1, 4, 2, 5, 3, 6}).flatten(6, 7).flatten(4, 5).flatten(2, 3);
      return video.slice(2, 0, r.size[0]).slice(3, 0, r.size[1]).slice(4, 0, r.size[2]).contiguous();
    };
    expect_operator(
        {normal(shape_of(r), 1)}, [&](const Tensors& t) { return unpatchify(t[0], r.patch, r.size); },
        [&](const Tensors& t) { return naive(t[0], r); }, aten);
    EXPECT_TRUE(unpatchify(normal(shape_of(r), 1), r.patch, r.size).is_contiguous());
  }
}

TEST(Unpatchify, UndoesPatchify) {
  for (const Row& r : kRows) {
    const int64_t volume = r.patch[0] * r.patch[1] * r.patch[2];
    const Tensor video = normal({2, r.channels, r.size[0], r.size[1], r.size[2]}, 1);
    // Output (position, channel) takes input (channel, position).
    const Tensor order = at::eye(r.channels * volume, at::kDouble).view({r.channels, volume, -1}).transpose(0, 1);
    const Tensor weight = order.reshape({r.channels * volume, r.channels, r.patch[0], r.patch[1], r.patch[2]});
    EXPECT_TRUE(unpatchify(patchify(video, weight, std::nullopt), r.patch, r.size).equal(video));
  }
}

TEST(Unpatchify, RowsThatDoNotFitAreUsageErrors) {
  const auto refuses = [](std::vector<int64_t> rows, std::vector<int64_t> patch, std::vector<int64_t> size) {
    EXPECT_THROW(unpatchify(at::zeros(rows), patch, size), UsageError) << at::IntArrayRef(rows);
  };
  EXPECT_NO_THROW(unpatchify(at::zeros({1, 3, 6, 8}), {1, 2, 2}, {3, 4, 6}));
  refuses({1, 2, 6, 8}, {1, 2, 2}, {3, 4, 6});
  refuses({1, 3, 7, 8}, {1, 2, 2}, {3, 4, 6});
  refuses({1, 3, 6, 9}, {1, 2, 2}, {3, 4, 6});
  refuses({1, 3, 6, 0}, {1, 2, 2}, {3, 4, 6});
  refuses({3, 6, 8}, {1, 2, 2}, {3, 4, 6});
  refuses({1, 3, 6, 8}, {2, 2}, {3, 4, 6});
  refuses({1, 3, 6, 8}, {1, 2, 0}, {3, 4, 6});
  refuses({1, 3, 6, 8}, {1, 2, 2}, {3, -4, 6});
}

}  // namespace
}  // namespace kinora::ops
