// CogVideoXTransformer3DModel (diffusers' names and weights). B batch, F latent frames, H x W latent pixels, L text
// tokens.
#pragma once

#include <optional>
#include <vector>

#include "kinora/models/cogvideox/blocks.h"
#include "kinora/models/cogvideox/embeddings.h"
#include "kinora/models/common/embeddings.h"

namespace kinora::models::cogvideox {

class CogVideoXTransformer {
 public:
  explicit CogVideoXTransformer(const CogVideoXConfig& config);

  const CogVideoXConfig& config() const { return config_; }
  const Params& params() const { return params_; }

  struct Inputs {
    Tensor hidden_states;          ///< [B, F, in_channels, H, W] in the weights' dtype
    Tensor encoder_hidden_states;  ///< [B, L, text_embed_dim] in the weights' dtype; every token takes part
    Tensor timestep;               ///< [B] or [1]
    Tensor ofs = {};          ///< [B] or [1], for models with an offset embedding (1.5 image to video), and only those
    RotaryTable rotary = {};  ///< rotary_positions(config, F, H, W); undefined: no rotation
  };
  /// -> [B, F, out_channels, H, W]. Throws UsageError where a shape does not fit the model.
  Tensor forward(const Run& run, const Inputs& in) const;

 private:
  void check(const Inputs& in) const;
  Tensor time_embed(const Run& run, const Inputs& in) const;
  Tensor head(const Run& run, const Tensor& video, const Conditioning& c) const;

  CogVideoXConfig config_;
  Params params_;
  std::optional<PatchEmbed> patch_embed_;
  std::optional<TimestepEmbedding> time_embedding_, ofs_embedding_;
  std::vector<Block> blocks_;
  std::optional<LayerNorm> norm_final_;
  std::optional<Linear> out_modulation_;
  std::optional<LayerNorm> norm_out_;
  std::optional<Linear> proj_out_;
};

}  // namespace kinora::models::cogvideox
