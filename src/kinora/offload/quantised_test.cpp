#include "kinora/offload/quantised.h"

#include <gtest/gtest.h>

#include "kinora/offload/toy_model.h"

namespace kinora::offload {
namespace {

double off_by(const Tensor& got, const Tensor& want) {
  const Tensor wide = want.to(at::kDouble);
  return ((got.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

TEST(QuantisedWeights, AModelStaysNearAndTakesAQuarterOfTheBytes) {
  const test::ToyModel model(3, 64);
  ResidentWeights resident(model.values());
  const Tensor x = normal({1, 20, 64}, 11);
  const Tensor want = model({.weights = &resident}, x);
  for (const auto& [format, most] : {std::pair{ByteFormat::int8, 0.02}, {ByteFormat::fp8, 0.05}}) {
    QuantisedWeights quantised(to_byte_params(model.params(), resident, format));
    const double off = off_by(model({.weights = &quantised}, x), want);
    EXPECT_GT(off, 1e-4);
    EXPECT_LT(off, most);
    EXPECT_LT(quantised.params().num_bytes(), 8 * model.params().num_elements() / 6);  // float64 here
  }
}

TEST(QuantisedStore, CopiesRowsAndCountsTheBytesThatCross) {
  const test::ToyModel model(1);
  ResidentWeights resident(model.values());
  const ByteParams params = to_byte_params(model.params(), resident);
  QuantisedWeights weights(params);
  QuantisedStore store(params);
  const Param& matrix = model.params()[model.id("blocks.0.mlp.fc1.weight")];
  Tensor place = at::empty({7, matrix.shape[1]}, at::kDouble);
  EXPECT_EQ(store.copy(matrix, 3, place), static_cast<uint64_t>(7 * (matrix.shape[1] + 4)));
  EXPECT_TRUE(place.equal(weights.get(matrix).narrow(0, 3, 7)));
  const Param& vector = model.params()[model.id("blocks.0.norm.weight")];
  Tensor whole = at::empty(vector.shape, at::kDouble);
  EXPECT_EQ(store.copy(vector, 0, whole), whole.nbytes());
  EXPECT_TRUE(whole.equal(resident.get(vector)));
}

TEST(IsProductWeight, TablesAndVectorsAreNot) {
  EXPECT_TRUE(is_product_weight({.id = 0, .name = "blocks.0.attn.proj.weight", .shape = {4, 4}}));
  EXPECT_FALSE(is_product_weight({.id = 0, .name = "blocks.0.norm.weight", .shape = {4}}));
  EXPECT_FALSE(is_product_weight({.id = 0, .name = "model.embed_tokens.weight", .shape = {4, 4}}));
  EXPECT_FALSE(is_product_weight({.id = 0, .name = "blocks.0.scale_shift_table", .shape = {6, 4}}));
}

}  // namespace
}  // namespace kinora::offload
