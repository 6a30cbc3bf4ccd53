// The configuration of CogVideoX's transformer (Yang et al. 2024): 2B (sine-cosine positions), 5B (rotary), 5B image to
// video (learned positions), 1.5 (patches in time, offset embedding).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kinora/base/json.h"
#include "kinora/models/common/feed_forward.h"

namespace kinora::models::cogvideox {

/// Members bear the names of diffusers' config.json.
struct CogVideoXConfig {
  int64_t num_attention_heads = 30;
  int64_t attention_head_dim = 64;
  int64_t in_channels = 16;
  int64_t out_channels = 16;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  int64_t time_embed_dim = 512;
  int64_t ofs_embed_dim = 0;  ///< 0: none; else time_embed_dim
  int64_t text_embed_dim = 4096;
  int64_t num_layers = 30;
  bool attention_bias = true;
  int64_t sample_width = 90;   ///< latent pixels
  int64_t sample_height = 60;  ///< latent pixels
  int64_t sample_frames = 49;  ///< frames of video, not of latents
  int64_t patch_size = 2;
  int64_t patch_size_t = 0;  ///< 0: a frame a patch, the projection stored as a convolution
  int64_t temporal_compression_ratio = 4;
  int64_t max_text_seq_length = 226;
  FeedForwardForm feed_forward;
  ops::Activation timestep_activation = ops::Activation::silu;
  bool norm_elementwise_affine = true;
  double norm_eps = 1e-5;
  double spatial_interpolation_scale = 1.875;
  double temporal_interpolation_scale = 1.0;
  bool use_rotary_positional_embeddings = false;
  bool use_learned_positional_embeddings = false;
  bool patch_bias = true;

  int64_t width() const { return num_attention_heads * attention_head_dim; }
  int64_t patch_frames() const { return patch_size_t > 0 ? patch_size_t : 1; }
  /// Latent frames of a clip of sample_frames.
  int64_t sample_latent_frames() const { return (sample_frames - 1) / temporal_compression_ratio + 1; }

  /// Reads transformer/config.json. Throws DataError for what no CogVideoX can be.
  static CogVideoXConfig from_json(const Json& json, std::string_view what = "transformer/config.json");
};

/// Multiply-adds count 2. Matrix products and attention of one model call: latents [batch, frames, channels, height, width]
/// with L text tokens. With N = T S video tokens, R = N + L, D width, E time_embed_dim, O ofs_embed_dim, v patch volume:
///   batch * (num_layers (R (4 + 8) 2 D^2 + 4 R^2 D + 2 (2 E 6 D))                       blocks
///            + 2 N D v (in + out channels) + 2 L text_embed_dim D                       ends
///            + 2 (D + E) E + 2 (2 O^2) + 2 E 2 D)                                       time
double cogvideox_flops(const CogVideoXConfig& config, int64_t frames, int64_t height, int64_t width,
                       int64_t text_tokens, int64_t batch = 1);

}  // namespace kinora::models::cogvideox
