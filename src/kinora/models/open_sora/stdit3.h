// STDiT3, the denoising transformer of Open-Sora 1.2 (Zheng et al. 2024; VideoSys' STDiT3 is the reference): pairs of a
// spatial and a temporal block on patches of latents. Predicts the velocity of a rectified flow, from noise to data, as
// its first channels.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <vector>

#include "kinora/models/open_sora/blocks.h"
#include "kinora/models/open_sora/config.h"

namespace kinora::models {

struct STDiT3Inputs {
  Tensor latents;   ///< [B, in_channels, frames, height, width]
  Tensor timestep;  ///< [B], 0 .. 1000; rounded to the model's dtype, as the reference does
  Tensor caption;   ///< [B, 1, tokens, caption_channels]; skip_y_embedder: embedded and packed, [1, sum, hidden_size]
  Tensor
      caption_mask;  ///< [B or fewer, tokens], other than zero keeps; undefined: all; skip_y_embedder: the lengths, [B]
  std::optional<open_sora::Caption>
      embedded_caption;  ///< of embed_caption: then caption and its mask are not looked at
  Tensor frame_mask;     ///< [B, T] bool, T frames of patches: false marks a given frame, which enters at time 0;
                         ///< undefined: none
  Tensor fps;            ///< [B], or fewer that repeat; 120 stands for an image
  double height = 0;     ///< of the clip in pixels, for the scale of positions
  double width = 0;
  std::optional<int64_t> valid_depth;  ///< run only so many pairs of blocks
};

class STDiT3 {
 public:
  explicit STDiT3(const STDiT3Config& config);
  STDiT3(const STDiT3&) = delete;  // what a call captures points here
  STDiT3& operator=(const STDiT3&) = delete;

  const STDiT3Config& config() const { return config_; }
  /// In the order of use, so that a range of ids is a range of the work.
  const Params& params() const { return params_; }
  /// y_embedder.y_embedding [model_max_length, caption_channels]: the caption of the unconditional branch, and of
  /// dropped captions.
  const Param& null_caption() const { return y_embedder_.null_caption(); }

  /// -> [B, out_channels, frames, height, width] in float32 (float64 in float64). The computation's dtype is that of
  /// the weights. Throws UsageError for shapes that do not fit, CancelledError.
  Tensor forward(const Run& run, const STDiT3Inputs& inputs) const;

  /// What of a caption does not depend on the step, once per request: rows are embedded after the mask has cut them.
  open_sora::Caption embed_caption(const Run& run, const Tensor& caption, const Tensor& mask = {}) const;
  /// Also the keys and values of every block: 4 depth hidden_size numbers a token, for 4 hidden_size^2 operations a
  /// token and block saved.
  open_sora::Caption with_keys_values(const Run& run, open_sora::Caption caption) const;

 private:
  void check(const STDiT3Inputs& inputs) const;
  open_sora::Conditioning condition(const Run& run, const STDiT3Inputs& inputs, const Extent& extent,
                                    const Tensor& like) const;
  Tensor time_modulation(const Run& run, const Tensor& embed) const;
  const open_sora::Block& block(int index) const { return blocks_[static_cast<size_t>(index)]; }

  STDiT3Config config_;
  Params params_;
  open_sora::PatchEmbed x_embedder_;
  open_sora::ScalarEmbedder t_embedder_, fps_embedder_;
  Linear t_block_;
  open_sora::CaptionEmbedder y_embedder_;
  Param rope_freqs_;
  std::vector<open_sora::Block> blocks_;  // spatial and temporal in turn
  open_sora::FinalLayer final_layer_;
  std::vector<int32_t> order_;
};

}  // namespace kinora::models
