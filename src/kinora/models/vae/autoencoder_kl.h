// The 2-D variational autoencoder of latent diffusion (Rombach et al. 2022) as diffusers publishes it under
// AutoencoderKL: Stable Diffusion, SDXL and the picture half of Open-Sora's. Parameters carry the published names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/models/vae/gaussian.h"
#include "kinora/models/vae/kl_blocks.h"
#include "kinora/nn/run.h"

namespace kinora::models {

/// The keys of the published config.json; defaults are diffusers'.
struct AutoencoderKlConfig {
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_out_channels{64};  ///< a level each; all but the last halve
  int64_t layers_per_block = 1;
  int64_t norm_num_groups = 32;
  int64_t sample_size = 32;  ///< side of the pictures it was trained on; the default tile
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;
  double scaling_factor = 0.18215;  ///< for callers: latents are multiplied by it before the transformer ...
  double shift_factor = 0;          ///< ... after this was subtracted

  /// Pixels per latent, each way.
  int64_t downscale() const { return int64_t{1} << (block_out_channels.size() - 1); }
  /// Stable Diffusion XL's: 128, 256, 512, 512; two layers; pictures of 512.
  static AutoencoderKlConfig sdxl();
  /// Absent keys keep `base`'s values; unknown ones are warned of. Throws DataError for other block types or
  /// activations than the published ones, and widths that the groups do not divide.
  static AutoencoderKlConfig from_json(const Json& json, const std::string& what);
  static AutoencoderKlConfig from_json(const Json& json, const std::string& what, AutoencoderKlConfig base);
  Json to_json() const;
};

/// Multiply-adds count 2. Convolutions and attention of decoding latents [batch, latent_channels, height, width]; with P
/// latent pixels, C_i the width of level i (the last is the innermost) and its 4^(levels - 1 - i) P pixels:
///   a 3x3 convolution 18 in out pixels, a 1x1 one 2 in out pixels, the attention 8 C^2 P + 4 C P^2
double decode_flops(const AutoencoderKlConfig& config, int64_t height, int64_t width, int64_t batch = 1);

/// How a call is cut into parts that need less memory.
struct KlParts {
  int64_t micro_batch = 0;       ///< pictures at a time, same result; 0: all (diffusers' slicing: 1)
  bool tiling = false;           ///< overlapping tiles for pictures larger than one; changes the result slightly
  int64_t tile_sample_size = 0;  ///< side of a tile in pixels; 0: the config's sample_size
  int64_t tile_latent_size = 0;  ///< the same in latents; 0: tile_sample_size / downscale
  double tile_overlap = 0.25;    ///< part of a tile that overlaps the next
};

class AutoencoderKl {
 public:
  AutoencoderKl(const Scope& scope, const AutoencoderKlConfig& config);
  const AutoencoderKlConfig& config() const { return config_; }

  /// x [B, in_channels, H, W] in -1 .. 1, in the weights' dtype -> posterior over [B, latent_channels, H / f, W / f]
  /// (rounded down). Throws UsageError for another shape or a picture smaller than f; CancelledError between parts.
  DiagonalGaussian encode(const Run& run, const Tensor& x, const KlParts& parts = {}) const;
  /// z [B, latent_channels, h, w] -> [B, out_channels, f h, f w], not clamped. Throws as encode.
  Tensor decode(const Run& run, const Tensor& z, const KlParts& parts = {}) const;

 private:
  Tensor encode_part(const Run& run, const Tensor& x, const KlParts& parts) const;
  Tensor decode_part(const Run& run, const Tensor& z, const KlParts& parts) const;

  AutoencoderKlConfig config_;
  kl::Encoder encoder_;
  kl::Decoder decoder_;
  std::optional<Conv> quant_conv_, post_quant_conv_;
};

}  // namespace kinora::models
