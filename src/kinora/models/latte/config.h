// The configuration of Latte's transformer (Ma et al. 2024), as Latte-1 has it for text to video.
#pragma once

#include <cstdint>
#include <string_view>

#include "kinora/base/json.h"
#include "kinora/models/common/feed_forward.h"

namespace kinora::models::latte {

/// Members bear the names of diffusers' config.json, and its defaults where it has some. Latte-1: 16 heads of 72, 28
/// layers, out_channels 8, attention_bias, gelu-approximate, norms without weights and of eps 1e-6.
struct LatteConfig {
  int64_t num_attention_heads = 16;
  int64_t attention_head_dim = 88;
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  int64_t num_layers = 1;  ///< pairs of a spatial and a temporal block
  bool attention_bias = false;
  int64_t sample_size = 64;  ///< latent pixels of a side, at which positions are those of the training
  int64_t patch_size = 2;
  FeedForwardForm feed_forward = {ops::Activation::gelu, true};
  bool norm_elementwise_affine = true;
  double norm_eps = 1e-5;
  int64_t caption_channels = 4096;
  int64_t video_length = 16;  ///< frames at most

  int64_t width() const { return num_attention_heads * attention_head_dim; }
  /// Positions are divided by this, so that a large sample has those of 64 latent pixels.
  int64_t interpolation_scale() const { return sample_size < 128 ? 1 : sample_size / 64; }

  /// Reads transformer/config.json. Throws DataError for what no Latte can be.
  static LatteConfig from_json(const Json& json, std::string_view what = "transformer/config.json");
};

/// Multiply-adds count 2. Matrix products and attention of one model call with a timestep a sample: latents [batch,
/// channels, frames, height, width], L text tokens. With S patches of each of T frames, N = T S, D width, f = 4 (6 where the
/// feed-forward layer is gated), p patch size:
///   batch * (num_layers (N (20 + 8 f) D^2 + 4 L D^2 + 4 N (S + T + L) D)      pairs of blocks
///            + 2 N D p^2 (in + out channels)                                  ends
///            + 2 (256 + 7 D) D + 2 L (caption_channels + D) D)                conditions
double latte_flops(const LatteConfig& config, int64_t frames, int64_t height, int64_t width, int64_t text_tokens,
                   int64_t batch);

}  // namespace kinora::models::latte
