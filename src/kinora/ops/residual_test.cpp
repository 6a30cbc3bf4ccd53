#include "kinora/ops/residual.h"

#include "kinora/base/error.h"
#include "kinora/ops/check_operator.h"

namespace kinora::ops {
namespace {

TEST(AddResidual, EqualsALoopWithAndWithoutGate) {
  const auto naive = [](const Tensors& in) {
    const auto x = values(in[0]), y = values(in[1]);
    const auto gate = in.size() > 2 ? values(in[2].expand_as(in[0])) : std::vector<double>(x.size(), 1.0);
    std::vector<double> out;
    for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i] + y[i] * gate[i]);
    return from_values(out, in[0].sizes());
  };
  for (const auto& [rows, c] : {std::pair<int64_t, int64_t>{1, 1}, {3, 17}, {17, 5}}) {
    const Tensors in{normal({2, 3, rows, c}, 1), normal({2, 3, rows, c}, 2), normal({2, 1, 1, c}, 3)};
    expect_operator(
        in, [](const Tensors& t) { return add_residual(t[0], t[1], t[2]); }, naive,
        [](const Tensors& t) { return t[0] + t[1] * t[2]; });
    expect_operator(
        {in[0], in[1]}, [](const Tensors& t) { return add_residual(t[0], t[1]); }, naive,
        [](const Tensors& t) { return t[0] + t[1]; });
  }
}

TEST(AddResidual, GateRoundsBeforeTheSumSoThatAKeptProductGivesTheSameBits) {
  const Tensor x = normal({3, 17}, 1).to(at::kBFloat16), y = normal({3, 17}, 2).to(at::kBFloat16),
               gate = normal({17}, 3).to(at::kBFloat16);
  EXPECT_TRUE(add_residual(x, y, gate).equal(add_residual(x, y * gate)));
}

TEST(AddResidual, ShapesThatDifferAreAUsageErrorEvenWhereTheyWouldBroadcast) {
  EXPECT_THROW(add_residual(normal({2, 3, 5}, 1), normal({2, 1, 5}, 2)), UsageError);
  EXPECT_THROW(add_residual(normal({2, 5}, 1), normal({1, 2, 5}, 2), normal({5}, 3)), UsageError);
}

}  // namespace
}  // namespace kinora::ops
