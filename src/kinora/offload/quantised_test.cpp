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
  TensorStore store(model.values());
  const Tensor x = normal({1, 20, 64}, 11);
  const Tensor want = model({.weights = &resident}, x);
  for (const auto& [format, most] : {std::pair{ByteFormat::int8, 0.02}, {ByteFormat::fp8, 0.05}}) {
    QuantisedWeights quantised(to_byte_params(model.params(), store, {.format = format}));
    const double off = off_by(model({.weights = &quantised}, x), want);
    EXPECT_GT(off, 1e-4);
    EXPECT_LT(off, most);
    EXPECT_LT(quantised.params().num_bytes(), 8 * model.params().num_elements() / 6);  // float64 here
  }
}

TEST(QuantisedStore, CopiesRowsAndCountsTheBytesThatCross) {
  const test::ToyModel model(1);
  ResidentWeights resident(model.values());
  TensorStore values(model.values());
  const ByteParams params = to_byte_params(model.params(), values);
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

TEST(ByteParams, AreTheSameFromPiecesOfAMatrixAndAsPlanned) {
  Params params;
  const Param& large = Scope(params).param("large.weight", {1201, 1031});  // two pieces, the second a part of one
  Scope(params).param("norm.weight", {7});
  const std::vector<Tensor> values = drawn_weights(params, 5, at::kFloat);
  TensorStore store(values);
  for (const ByteFormat format : {ByteFormat::int8, ByteFormat::fp8}) {
    const ByteParams bytes = to_byte_params(params, store, {.format = format});
    const ByteRows want = ops::to_byte_rows(values[0], format);
    EXPECT_TRUE(bytes.bytes[0].values.view(at::kByte).equal(want.values.view(at::kByte)));
    EXPECT_TRUE(bytes.bytes[0].scales.equal(want.scales));
    EXPECT_TRUE(bytes.whole[1].equal(values[1]));
    EXPECT_EQ(shape_of_byte_params(params, at::kFloat, format).num_bytes(), bytes.num_bytes());
    EXPECT_EQ(bytes.num_bytes(), large.shape[0] * (large.shape[1] + 4) + 7 * 4);
  }
}

TEST(IsProductWeight, TablesAndVectorsAreNot) {
  EXPECT_TRUE(is_product_weight({.id = 0, .name = "blocks.0.attn.proj.weight", .shape = {4, 4}}));
  EXPECT_FALSE(is_product_weight({.id = 0, .name = "blocks.0.norm.weight", .shape = {4}}));
  EXPECT_FALSE(is_product_weight({.id = 0, .name = "model.embed_tokens.weight", .shape = {4, 4}}));
  EXPECT_FALSE(is_product_weight({.id = 0, .name = "a.relative_attention_bias.weight", .shape = {4, 4}}));
  EXPECT_FALSE(is_product_weight({.id = 0, .name = "blocks.0.scale_shift_table", .shape = {6, 4}}));
}

}  // namespace
}  // namespace kinora::offload
