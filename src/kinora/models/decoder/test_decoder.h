// For tests: the smallest decoders that have every part, in float64.
#pragma once

#include <ATen/core/grad_mode.h>

#include "kinora/models/decoder/decoder.h"
#include "kinora/nn/test_weights.h"

namespace kinora::models::decoder {

/// Two layers, two queries to a head of keys.
inline DecoderConfig tiny_llama() {
  DecoderConfig c;
  c.vocab_size = 61;
  c.hidden_size = 24;
  c.intermediate_size = 40;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 6;
  c.max_position_embeddings = 96;
  return c;
}

inline DecoderConfig tiny_opt() {
  DecoderConfig c = tiny_llama();
  c.family = Family::opt;
  c.num_key_value_heads = c.num_attention_heads;
  c.norm_eps = 1e-5;
  c.activation = ops::Activation::relu;
  c.attention_bias = c.mlp_bias = c.tie_word_embeddings = true;
  return c;
}

struct TestDecoder {
  explicit TestDecoder(const DecoderConfig& config, at::ScalarType dtype = at::kDouble)
      : model(config), weights(drawn_weights(model.params(), 11, dtype)) {
    run.weights = &weights;
  }
  Tensor logits(const Tensor& ids, KvCache& cache) const { return logits(ids, cache, run); }
  Tensor logits(const Tensor& ids, KvCache& cache, const kinora::Run& r) const {
    return model.logits(r, model.hidden_states(r, ids, cache));
  }
  /// Of all tokens at once.
  Tensor logits(const Tensor& ids) const {
    KvCache cache;
    return logits(ids, cache);
  }

  at::NoGradGuard no_grad;
  Decoder model;
  ResidentWeights weights;
  kinora::Run run;
};

inline Tensor tokens(int64_t batch, int64_t n, uint64_t seed = 3) {
  at::Generator generator = cpu_generator(seed);
  return at::randint(0, 61, {batch, n}, generator, at::kLong);
}

}  // namespace kinora::models::decoder
