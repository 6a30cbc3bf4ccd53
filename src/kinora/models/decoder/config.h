// The configuration of a language model of the decoder-only kind: Llama (Touvron et al. 2023; grouped queries, rotary
// positions, gated feed-forward) and OPT (Zhang et al. 2022; learned positions, biases). Read from the config.json of
// transformers; members bear its names.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/ops/linear.h"

namespace kinora::models::decoder {

enum class Family : uint8_t { llama, opt };

/// How Llama 3.1 stretches its rotary positions: wavelengths above original / low_freq_factor are slowed by `factor`,
/// those below original / high_freq_factor are left, those between blend.
struct Llama3Scaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_max_position_embeddings = 8192;
};

/// Defaults are those of Llama 7B.
struct DecoderConfig {
  Family family = Family::llama;
  int64_t vocab_size = 32000;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;  ///< OPT: ffn_dim
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 32;  ///< queries share them in groups
  int64_t head_dim = 128;
  int64_t max_position_embeddings = 2048;
  double norm_eps = 1e-6;
  ops::Activation activation = ops::Activation::silu;  ///< Llama gates with it
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = false;  ///< the last product is with the embeddings
  // Llama's positions.
  double rope_theta = 10000;
  std::optional<Llama3Scaling> rope_scaling;
  // OPT's norms.
  bool do_layer_norm_before = true;  ///< false: behind each sum
  bool norm_affine = true;
  bool final_norm = true;
  std::vector<int64_t> eos_token_ids;  ///< what ends a text; may be empty

  int64_t query_width() const { return num_attention_heads * head_dim; }
  int64_t key_width() const { return num_key_value_heads * head_dim; }
  /// Queries that share a head of keys and values.
  int64_t group() const { return num_attention_heads / num_key_value_heads; }

  /// Throws DataError for another model_type, for what no such model can be, and for what is not built: other rotary
  /// scalings, word_embed_proj_dim other than hidden_size, quantised checkpoints, other activations.
  static DecoderConfig from_json(const Json& json, std::string_view what = "config.json");
};

}  // namespace kinora::models::decoder
