// The encoders of T5 (Raffel et al. 2020), T5 v1.1 and mT5 (gated feed-forward, Shazeer 2020) and UMT5 (Chung et al.
// 2023: a relative position bias of its own in every layer). Parameter names are those of the published checkpoints. B
// batch, L tokens, A heads, C width.
#pragma once

#include <string_view>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/nn/layers.h"
#include "kinora/nn/site.h"

namespace kinora::text {

struct T5Config {
  int64_t vocab_size = 32128;
  int64_t d_model = 512;
  int64_t d_kv = 64;  ///< of one head; num_heads * d_kv need not be d_model
  int64_t d_ff = 2048;
  int64_t num_layers = 6;
  int64_t num_heads = 8;
  int64_t num_buckets = 32;
  int64_t max_distance = 128;
  double layer_norm_epsilon = 1e-6;
  ops::Activation activation = ops::Activation::relu;
  bool gated = false;           ///< v1.1: activation(wi_0 x) * (wi_1 x)
  bool bias_per_layer = false;  ///< UMT5; else the first layer's bias serves all

  /// Reads a config.json of transformers (model_type t5, mt5 or umt5). Throws DataError for another model, a value out
  /// of range or an activation that T5 does not have.
  static T5Config from_json(const Json& json, std::string_view what = "text_encoder/config.json");
};

/// Multiply-adds count 2. Matrix products and attention of [batch, L] tokens, with I = num_heads d_kv, C d_model, F d_ff:
///   batch num_layers (2 L 4 C I + 4 L^2 I + 2 L C F (3 where gated, else 2))
double t5_flops(const T5Config& config, int64_t tokens, int64_t batch = 1);

/// Bucket of each relative position (key minus query): int64, any shape -> the same. Half of the buckets are exact
/// distances, the others grow logarithmically up to max_distance; `bidirectional` gives each direction half of them.
Tensor relative_position_bucket(const Tensor& relative_position, bool bidirectional, int64_t num_buckets,
                                int64_t max_distance);

class T5Encoder {
 public:
  explicit T5Encoder(const T5Config& config);

  const T5Config& config() const { return config_; }
  const Params& params() const { return params_; }

  /// last_hidden_state. input_ids [B, L] int64; attention_mask [B, L] (nonzero takes part) or undefined -> [B, L,
  /// d_model] in the weights' dtype. Tokens that are masked change no other token's result. Throws UsageError on
  /// shapes, dtypes, unknown ids.
  Tensor forward(const Run& run, const Tensor& input_ids, const Tensor& attention_mask = {}) const;

  /// num_layers + 1 tensors: the embeddings, what each layer but the last gives, last_hidden_state.
  std::vector<Tensor> hidden_states(const Run& run, const Tensor& input_ids, const Tensor& attention_mask = {}) const;

 private:
  struct Block {
    RmsNorm attention_norm;
    Linear q, k, v, o;
    std::optional<Param> bias;  // [num_buckets, A]
    RmsNorm mlp_norm;
    Linear wi;  // wi_0 where gated
    std::optional<Linear> wi_1;
    Linear wo;
  };

  Block make_block(const Scope& scope, int64_t index) const;
  Stack make_stack(const Run& run, const Tensor& input_ids, const Tensor& attention_mask) const;
  Tensor embed(const Run& run, const Tensor& input_ids) const;
  Tensor attention_bias(const Run& run, const Block& block, const Tensor& input_ids,
                        const Tensor& attention_mask) const;
  Tensor attend(const Run& run, const Block& block, const Tensor& x, const Tensor& bias) const;
  Tensor feed_forward(const Run& run, const Block& block, const Tensor& x) const;

  T5Config config_;
  Params params_;
  Param shared_;
  std::vector<Block> blocks_;
  std::optional<RmsNorm> final_norm_;
};

}  // namespace kinora::text
