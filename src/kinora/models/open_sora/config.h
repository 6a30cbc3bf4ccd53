// Configuration of STDiT3, the transformer of Open-Sora 1.2; the names are those of its config.json.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "kinora/base/json.h"

namespace kinora::models {

/// Defaults are the published model's (hpcai-tech/OpenSora-STDiT-v3).
struct STDiT3Config {
  int64_t in_channels = 4;
  std::array<int64_t, 3> patch_size{1, 2, 2};  ///< frames, height, width of a patch, in latents
  double input_sq_size = 512;                  ///< side of the square clip, in pixels, whose positions are not scaled
  int64_t hidden_size = 1152;
  int64_t depth = 28;  ///< pairs of a spatial and a temporal block
  int64_t num_heads = 16;
  double mlp_ratio = 4;
  double class_dropout_prob = 0.1;  ///< for trainers: how often a caption gives way to the null caption
  bool pred_sigma = true;           ///< twice the channels come out; the second half has no use
  int64_t caption_channels = 4096;
  int64_t model_max_length = 300;  ///< tokens of a caption
  bool qk_norm = true;
  bool qk_norm_legacy = false;   ///< rotary positions before the norm
  bool skip_y_embedder = false;  ///< captions come embedded and packed
  bool freeze_y_embedder = false;
  bool only_train_temporal = false;

  int64_t out_channels() const { return pred_sigma ? 2 * in_channels : in_channels; }
  int64_t head_dim() const { return hidden_size / num_heads; }
  int64_t mlp_size() const { return static_cast<int64_t>(static_cast<double>(hidden_size) * mlp_ratio); }
  /// Latents in a patch, without channels.
  int64_t patch_volume() const { return patch_size[0] * patch_size[1] * patch_size[2]; }

  /// Absent keys take the default; unknown ones are named in one line of warning. `what` names the file in errors.
  /// Throws DataError for a wrong type and for sizes that do not fit: hidden_size must divide by 4 and by num_heads, a
  /// head's width by 2.
  static STDiT3Config from_json(const Json& json, std::string what = "config.json");
  /// What from_json reads, with model_type.
  Json to_json() const;
};

/// Multiply-adds count 2. Matrix products and attention of one model call: latents [batch, C, frames, height, width]
/// with `text_tokens` tokens per caption. With N = T S tokens in all (T frames, S patches of a frame), L text tokens, D
/// width, r mlp_ratio:
///   batch * (2 depth (N ((12 + 4 r) D^2 + 4 L D) + 4 L D^2) + depth N 4 (S + T) D    blocks
///            + 2 N D (patch volume) (in + out channels) + 2 L (caption_channels + D) D    ends
///            + 2 (2 (256 + D) D) + 12 D^2)                                               time
double stdit3_flops(const STDiT3Config& config, int64_t frames, int64_t height, int64_t width, int64_t text_tokens,
                    int64_t batch = 1);

}  // namespace kinora::models
