// For tests: the smallest transformers that have every part.
#pragma once

#include "kinora/models/cogvideox/config.h"
#include "kinora/models/latte/config.h"
#include "kinora/models/open_sora/config.h"
#include "kinora/models/wan/config.h"

namespace kinora::models {

/// Two pairs of blocks.
inline STDiT3Config tiny_stdit3() {
  STDiT3Config config;
  config.hidden_size = 16;
  config.depth = 2;
  config.num_heads = 2;
  config.caption_channels = 12;
  config.model_max_length = 6;
  return config;
}

/// Two blocks, positions from the sine-cosine table (2B). The sample is 3 latent frames of 3 x 5 patches.
inline cogvideox::CogVideoXConfig tiny_cogvideox() {
  cogvideox::CogVideoXConfig config;
  config.num_attention_heads = 2;
  config.attention_head_dim = 16;
  config.in_channels = 3;
  config.out_channels = 5;
  config.time_embed_dim = 12;
  config.text_embed_dim = 14;
  config.num_layers = 2;
  config.sample_width = 10;
  config.sample_height = 6;
  config.sample_frames = 9;
  config.max_text_seq_length = 7;
  return config;
}

/// Two pairs of blocks. Positions are those of 4 x 4 patches; other sizes stretch them.
inline latte::LatteConfig tiny_latte() {
  latte::LatteConfig config;
  config.num_attention_heads = 2;
  config.attention_head_dim = 8;
  config.in_channels = 3;
  config.out_channels = 5;
  config.num_layers = 2;
  config.attention_bias = true;
  config.sample_size = 8;
  config.feed_forward = {ops::Activation::gelu_tanh, false};
  config.norm_elementwise_affine = false;
  config.norm_eps = 1e-6;
  config.caption_channels = 14;
  config.video_length = 5;
  return config;
}

/// Two blocks, from text.
inline wan::WanConfig tiny_wan() {
  wan::WanConfig config;
  config.num_attention_heads = 2;
  config.attention_head_dim = 16;
  config.in_channels = 3;
  config.out_channels = 5;
  config.text_dim = 14;
  config.freq_dim = 12;
  config.ffn_dim = 24;
  config.num_layers = 2;
  config.rope_max_seq_len = 16;
  return config;
}

}  // namespace kinora::models
