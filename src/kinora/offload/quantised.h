// Weights as bytes (ops/byte_linear.h): half of bfloat16's traffic over a link, and of its memory.
#pragma once

#include <functional>
#include <vector>

#include "kinora/offload/store.h"
#include "kinora/ops/byte_linear.h"

namespace kinora::offload {

using ops::ByteFormat, ops::ByteRows;

/// Which parameters become bytes.
using ByteChoice = std::function<bool(const Param&)>;
/// Matrices named "....weight" that are no table of embeddings (no part of the name ends in "embed_tokens",
/// "embed_positions", "shared", "position_embedding" or "relative_attention_bias"): tables are read by row, not
/// multiplied.
bool is_product_weight(const Param& param);

/// The values of a model, matrices as bytes where chosen.
struct ByteParams {
  std::vector<Tensor> whole;    ///< by id; undefined where there are bytes
  std::vector<ByteRows> bytes;  ///< by id; undefined where it is whole
  at::ScalarType dtype = at::kFloat;

  int64_t num_bytes() const;
};
struct ByteOptions {
  ByteFormat format = ByteFormat::int8;
  ByteChoice choice = is_product_weight;
  at::Device device = at::kCPU;  ///< where they lie
};
/// A matrix is taken from the store some rows at a time: with files as the store, little more than the result is in
/// memory. Throws what the store does.
ByteParams to_byte_params(const Params& params, WeightStore& store, const ByteOptions& options = {});
/// The same without memory, to plan by.
ByteParams shape_of_byte_params(const Params& params, at::ScalarType dtype, ByteFormat format);

/// Multiplies with bytes where there are; `get` makes the whole parameter floating.
class QuantisedWeights final : public WeightSource {
 public:
  explicit QuantisedWeights(ByteParams params) : params_(std::move(params)) {}
  Tensor get(const Param& param) override;
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override;
  const ByteParams& params() const { return params_; }

 private:
  ByteParams params_;
};

/// For streaming: bytes cross the link and become floating on the other side.
class QuantisedStore final : public WeightStore {
 public:
  explicit QuantisedStore(ByteParams params) : params_(std::move(params)) {}
  at::ScalarType dtype() const override { return params_.dtype; }
  uint64_t copy(const Param& param, int64_t first, const Tensor& place) override;

 private:
  ByteParams params_;
};

}  // namespace kinora::offload
