// The temporal half of Open-Sora 1.2's video autoencoder (VAE_Temporal): causal convolutions over 2-D latents that
// shorten time by 4, after MAGVIT-v2 (Yu et al. 2024). A latent frame depends on its own and earlier frames only, but
// for the group norms. B batch, C channels, T frames, H and W latents. Blocks take their input by value: what is moved
// in is freed early.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/models/vae/gaussian.h"
#include "kinora/nn/layers.h"

namespace kinora::models {

/// Defaults are the published VAE's (hpcai-tech/OpenSora-VAE-v1.2).
struct TemporalVaeConfig {
  int64_t in_out_channels = 4;   ///< of the 2-D latents
  int64_t latent_embed_dim = 4;  ///< before quant_conv
  int64_t embed_dim = 4;         ///< of the video latents
  int64_t filters = 128;
  int64_t num_res_blocks = 4;  ///< per level
  std::vector<int64_t> channel_multipliers{1, 2, 2, 4};
  std::vector<bool> temporal_downsample{false, true, true};  ///< behind each level but the last
  int64_t num_groups = 32;

  /// Frames per latent frame.
  int64_t downscale() const;
  int64_t width(size_t level) const { return filters * channel_multipliers[level]; }
  /// Absent keys take the default. Throws DataError for lists of unequal length and widths that the groups do not
  /// divide.
  static TemporalVaeConfig from_json(const Json& json, const std::string& what);
  Json to_json() const;
};

namespace open_sora {

/// Convolution that sees no later frame: k/2 zeros around H and W, (k_t - 1) + (1 - stride_t) zero frames in front,
/// none behind. "conv.weight" [out, in, k_t, k_h, k_w], "conv.bias" [out]. [B, in, T, H, W] -> [B, out, T / stride_t, H
/// / stride_h, W / stride_w].
class CausalConv3d {
 public:
  CausalConv3d(const Scope& scope, int64_t in, int64_t out, std::vector<int64_t> kernel, bool bias = true,
               std::vector<int64_t> stride = {1, 1, 1});
  Tensor operator()(const Run& run, const Tensor& x) const;

 private:
  std::vector<int64_t> kernel_, stride_;
  Param weight_;
  std::optional<Param> bias_;
};

/// x + conv2(silu(norm2(conv1(silu(norm1(x)))))), 3^3 convolutions without bias; a 1^3 "conv3" on x where the widths
/// differ.
class ResBlock {
 public:
  ResBlock(const Scope& scope, int64_t in, int64_t out, int64_t groups);
  Tensor operator()(const Run& run, Tensor x) const;

 private:
  GroupNorm norm1_;
  CausalConv3d conv1_;
  GroupNorm norm2_;
  CausalConv3d conv2_;
  std::optional<CausalConv3d> shortcut_;
};

}  // namespace open_sora

class TemporalVae {
 public:
  TemporalVae(const Scope& scope, const TemporalVaeConfig& config);
  const TemporalVaeConfig& config() const { return config_; }
  /// ceil(frames / downscale).
  int64_t latent_frames(int64_t frames) const;

  /// x [B, in_out_channels, T, H, W], any T >= 1: zero frames in front fill it up -> posterior over [B, embed_dim, T',
  /// H, W]. Throws UsageError for another shape, CancelledError between levels.
  DiagonalGaussian encode(const Run& run, const Tensor& x) const;
  /// z [B, embed_dim, T', H, W] -> [B, in_out_channels, num_frames, H, W]. Throws UsageError unless T' is
  /// latent_frames(num_frames).
  Tensor decode(const Run& run, const Tensor& z, int64_t num_frames) const;

 private:
  struct Level {
    std::vector<open_sora::ResBlock> blocks;
    std::optional<open_sora::CausalConv3d> resample;
  };
  struct Half {
    open_sora::CausalConv3d first;
    std::vector<open_sora::ResBlock> middle;
    std::vector<Level> levels;  ///< by the published index: from pixels to latents in both halves
    GroupNorm norm;
    open_sora::CausalConv3d last;
  };

  static Half make_encoder(const Scope& scope, const TemporalVaeConfig& config);
  static Half make_decoder(const Scope& scope, const TemporalVaeConfig& config);

  TemporalVaeConfig config_;
  Half encoder_, decoder_;
  open_sora::CausalConv3d quant_conv_, post_quant_conv_;
};

}  // namespace kinora::models
