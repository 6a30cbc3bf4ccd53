// LatteTransformer3DModel (diffusers' names and weights; VideoSys' LatteT2V is the same network): pairs of a spatial and
// a temporal block. B batch, F frames, H x W latent pixels, L text tokens.
#pragma once

#include <vector>

#include "kinora/models/latte/blocks.h"
#include "kinora/models/latte/embeddings.h"

namespace kinora::models::latte {

class LatteTransformer {
 public:
  explicit LatteTransformer(const LatteConfig& config);
  LatteTransformer(const LatteTransformer&) = delete;  // what a call captures points here
  LatteTransformer& operator=(const LatteTransformer&) = delete;

  const LatteConfig& config() const { return config_; }
  /// In the order of use, so that a range of ids is a range of the work.
  const Params& params() const { return params_; }

  struct Inputs {
    Tensor hidden_states;          ///< [B, in_channels, F, H, W] in the weights' dtype, F up to video_length
    Tensor timestep;               ///< [B] or [1]
    Tensor encoder_hidden_states;  ///< [B, L, caption_channels] in the weights' dtype
    /// [B, L]: 1 takes part, 0 does not (10000 less in the scores, so that a caption without a token still gives
    /// finite values). Or what is added to the scores: [B, 1, L], or a row for each frame, [B F, 1, L]. Undefined: all
    /// take part.
    Tensor encoder_attention_mask = {};
    bool enable_temporal_attentions = true;  ///< false: frames are pictures that do not know of each other
  };
  /// -> [B, out_channels, F, H, W]. Throws UsageError where a shape does not fit the model, CancelledError.
  Tensor forward(const Run& run, const Inputs& in) const;

 private:
  void check(const Inputs& in) const;
  Tensor text_bias(const Inputs& in) const;
  Tensor frame_positions(const Tensor& like, int64_t frames) const;
  Tensor head(const Run& run, const Tensor& x, const Tensor& time_embed) const;

  LatteConfig config_;
  Params params_;
  PatchEmbed pos_embed_;
  AdaLayerNormSingle adaln_single_;
  Mlp caption_projection_;
  std::vector<Block> blocks_;  // spatial and temporal in turn
  Param scale_shift_;
  LayerNorm norm_out_;
  Linear proj_out_;
  std::vector<int32_t> order_;
};

}  // namespace kinora::models::latte
