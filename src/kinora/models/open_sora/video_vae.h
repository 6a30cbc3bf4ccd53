// Open-Sora 1.2's video autoencoder (VideoAutoencoderPipeline): a 2-D autoencoder on every frame, then a temporal one
// over its latents; 8x8 pixels and 4 frames per latent in the published model. Long clips pass the temporal half in
// chunks of micro_frame_size frames that know nothing of each other.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/models/open_sora/temporal_vae.h"
#include "kinora/models/vae/autoencoder_kl.h"

namespace kinora::models {

/// Keys of the published config.json (hpcai-tech/OpenSora-VAE-v1.2), with the two halves' own keys nested in vae_2d and
/// vae_temporal. Defaults are the published model's.
struct VideoVaeConfig {
  AutoencoderKlConfig spatial = AutoencoderKlConfig::sdxl();
  TemporalVaeConfig temporal;
  double spatial_scaling_factor = 0.18215;  ///< on the 2-D latents; the reference does not ask vae_2d's config for it
  int64_t micro_frame_size = 17;            ///< frames of a temporal chunk; 0 (null in JSON): the whole clip at once
  int64_t micro_batch_size = 4;             ///< frames at a time in the 2-D half; changes memory, not the result
  std::vector<double> scale{3.85, 2.32, 2.33, 3.06};  ///< per latent channel: latents leave as (z - shift) / scale
  std::vector<double> shift{-0.10, 0.34, 0.27, 0.98};
  KlParts
      parts;  ///< tiling of the 2-D half (vae_2d's tiling, tile_sample_size); micro_batch comes from micro_batch_size

  /// Throws DataError for wrong types, widths that do not fit, and scale or shift of another length than the latent
  /// channels.
  static VideoVaeConfig from_json(const Json& json, const std::string& what);
  Json to_json() const;
};

/// Standard normal draws of the two posteriors.
struct VideoNoise {
  Tensor spatial;   ///< [B F, 2-D latent channels, h, w], sample by sample
  Tensor temporal;  ///< [B, latent channels, T, h, w]
};

class VideoVae {
 public:
  explicit VideoVae(const VideoVaeConfig& config);
  const VideoVaeConfig& config() const { return config_; }
  /// "spatial_vae.module.*", "temporal_vae.*", and the buffers "scale" and "shift" [1, C, 1, 1, 1] (not trainable).
  const Params& params() const { return params_; }
  /// The halves, for training one after the other. Between them latents are multiplied by spatial_scaling_factor.
  const AutoencoderKl& spatial() const { return spatial_; }
  const TemporalVae& temporal() const { return temporal_; }

  int64_t latent_channels() const { return config_.temporal.embed_dim; }
  int64_t downscale() const { return config_.spatial.downscale(); }  ///< pixels per latent, each way
  int64_t temporal_downscale() const {
    return config_.temporal.downscale();
  }  ///< frames per latent frame inside a chunk
  /// {frames, height, width} in pixels -> latents. Throws UsageError for sizes without latents.
  std::array<int64_t, 3> latent_size(const std::array<int64_t, 3>& size) const;

  /// pixels [B, 3, F, H, W] in -1 .. 1, in the weights' dtype -> [B, C, T, h, w]. Without noise: the modes; with it:
  /// samples of both posteriors, as the reference takes them. Throws UsageError for other shapes, CancelledError
  /// between parts.
  Tensor encode(const Run& run, const Tensor& pixels, const VideoNoise* noise = nullptr) const;
  /// As much noise as encode takes for clips of this size, drawn on the CPU in the order spatial, temporal.
  VideoNoise draw_noise(int64_t batch, const std::array<int64_t, 3>& size, at::Generator& generator,
                        at::ScalarType dtype = at::kFloat, at::Device device = at::kCPU) const;

  /// latents [B, C, T, h, w] with T = latent_size({num_frames, ...})[0] -> [B, 3, num_frames, f h, f w], not clamped.
  /// Throws as encode.
  Tensor decode(const Run& run, const Tensor& latents, int64_t num_frames) const;

  /// The halves of decode(), for whoever shares them out. A chunk (latents [B, C, t, h, w] of `num_frames` frames, at
  /// most micro_frame_size) -> the 2-D half's latents [B, c, num_frames, h, w].
  Tensor decode_time(const Run& run, const Tensor& chunk, int64_t num_frames) const;
  /// Those of some frames, any number -> [B, 3, n, H, W], a view whose frames lie one after another in memory.
  Tensor decode_space(const Run& run, const Tensor& pictures) const;

  /// Frames [B, 3, n, H, W] (a view whose frames lie one after another in memory) that begin at frame `first` of the
  /// clip.
  using OnFrames = std::function<void(Tensor frames, int64_t first)>;
  /// decode() that gives up its frames as they are made, at most max(1, micro_batch_size / B) at a time, so that a
  /// writer can work meanwhile and the clip never lies in memory whole.
  void decode_chunks(const Run& run, const Tensor& latents, int64_t num_frames, const OnFrames& on_frames) const;

 private:
  KlParts parts() const;
  Tensor encode_frames(const Run& run, const Tensor& pixels, const Tensor& noise) const;

  VideoVaeConfig config_;
  Params params_;
  AutoencoderKl spatial_;
  TemporalVae temporal_;
  Param scale_, shift_;
};

}  // namespace kinora::models
