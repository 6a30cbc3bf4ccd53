// The configuration of Wan's transformer (Wan Team 2025): 2.1 and 2.2 from text (1.3B, 5B, 14B), from an image (14B;
// 2.1 also attends to features of the image) and from the first and the last frame (14B).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "kinora/base/json.h"

namespace kinora::models::wan {

/// Members bear the names of diffusers' config.json. Defaults are those of the 14B from text.
struct WanConfig {
  std::array<int64_t, 3> patch_size{1, 2, 2};  ///< frames, height, width of a patch, in latents
  int64_t num_attention_heads = 40;
  int64_t attention_head_dim = 128;
  int64_t in_channels = 16;
  int64_t out_channels = 16;
  int64_t text_dim = 4096;
  int64_t freq_dim = 256;
  int64_t ffn_dim = 13824;
  int64_t num_layers = 40;
  bool cross_attn_norm = true;
  double eps = 1e-6;
  int64_t image_dim = 0;            ///< width of the image's features; 0: the model takes none
  int64_t added_kv_proj_dim = 0;    ///< 0: the image shares the text's keys and values; else width()
  int64_t rope_max_seq_len = 1024;  ///< positions along each axis
  int64_t pos_embed_seq_len = 0;    ///< rows of learned positions for the features of two images; 0: none

  int64_t width() const { return num_attention_heads * attention_head_dim; }
  int64_t patch_volume() const { return patch_size[0] * patch_size[1] * patch_size[2]; }

  /// Reads transformer/config.json. Throws DataError for what no Wan can be.
  static WanConfig from_json(const Json& json, std::string_view what = "transformer/config.json");
};

/// Multiply-adds count 2. Matrix products and attention of one model call with a timestep a sample: latents [batch,
/// channels, frames, height, width], L text tokens, M rows of image features. With N video tokens, D width, F ffn_dim,
/// v patch volume:
///   batch * (num_layers (N (12 D^2 + 4 D F) + 4 (L + M) D^2 + 4 N (N + L + M) D)    blocks
///            + 2 N D v (in + out channels)                                          ends
///            + 2 (freq_dim + D + 6 D) D + 2 L (text_dim + D) D + 2 M (image_dim + D) image_dim)
double wan_flops(const WanConfig& config, int64_t frames, int64_t height, int64_t width, int64_t text_tokens,
                 int64_t batch = 1, int64_t image_rows = 0);

}  // namespace kinora::models::wan
