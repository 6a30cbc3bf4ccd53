// WanTransformer3DModel (diffusers' names and weights), of Wan 2.1 and each of the two of Wan 2.2. B batch, F latent
// frames, H x W latent pixels, T x S patches of them, L text tokens, M rows of image features, C width.
#pragma once

#include <optional>
#include <vector>

#include "kinora/models/wan/blocks.h"

namespace kinora::models::wan {

class WanTransformer {
 public:
  explicit WanTransformer(const WanConfig& config);
  WanTransformer(const WanTransformer&) = delete;  // what a call captures points here
  WanTransformer& operator=(const WanTransformer&) = delete;

  const WanConfig& config() const { return config_; }
  /// In the order of use.
  const Params& params() const { return params_; }

  struct Inputs {
    Tensor hidden_states;          ///< [B, in_channels, F, H, W] in the weights' dtype
    Tensor encoder_hidden_states;  ///< [B, L, text_dim] in the weights' dtype; every token takes part, zeros too
    Tensor timestep;               ///< [B] or [1]; or [B, T S], one for each row of the video (2.2, 5B)
    /// Features of an image [B, M, image_dim], for models that take them, and only those; with learned positions also
    /// [2 B, M / 2, image_dim], the first and the last frame in turn. For models with keys of their own for them give
    /// 512 text tokens: the reference counts the text from the end.
    Tensor encoder_hidden_states_image = {};
  };
  /// -> [B, out_channels, F, H, W]. Throws UsageError where a shape does not fit the model.
  Tensor forward(const Run& run, const Inputs& in) const;

 private:
  void check(const Inputs& in) const;
  void check_image(const Inputs& in) const;
  /// Patches of frames, rows and columns.
  std::array<int64_t, 3> grid(const Tensor& video) const;
  Conditioning condition(const Run& run, const Inputs& in) const;
  Tensor head(const Run& run, const Tensor& x, const Conditioning& c) const;

  WanConfig config_;
  Params params_;
  std::optional<Param> patch_weight_, patch_bias_;
  std::optional<ConditionEmbedder> condition_embedder_;
  std::vector<Block> blocks_;
  std::optional<Param> scale_shift_;
  std::optional<LayerNorm> norm_out_;
  std::optional<Linear> proj_out_;
};

}  // namespace kinora::models::wan
