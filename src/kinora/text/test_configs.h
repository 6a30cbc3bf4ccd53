// For tests: the smallest text encoder that has every part, its sizes odd or unlike where they may be.
#pragma once

#include "kinora/text/t5.h"

namespace kinora::text {

/// Of the form of T5 v1.1 (gated); num_heads * d_kv is not d_model.
inline T5Config tiny_t5() {
  T5Config config;
  config.vocab_size = 37;
  config.d_model = 24;
  config.d_kv = 5;
  config.d_ff = 29;
  config.num_layers = 3;
  config.num_heads = 3;
  config.gated = true;
  config.activation = ops::Activation::gelu_tanh;
  return config;
}

}  // namespace kinora::text
