// The stages of train/shapes.h, apart so that each can be read alone.
#pragma once

#include <functional>

#include "kinora/train/shapes.h"

namespace kinora::train {

/// What the stages share.
struct ShapesContext {
  const ShapesConfig& config;
  const ShapesOptions& options;

  StageHooks hooks(const std::string& stage) const;
  std::filesystem::path weights_file(const std::string& stage) const {
    return options.folder / stage / "weights.safetensors";
  }
};

/// Trains the 2-D autoencoder on crops; on return `vae.spatial_scaling_factor` makes its latents' variance 1.
NamedTensors train_spatial(const ShapesContext& context, models::VideoVaeConfig& vae);
/// Trains the temporal autoencoder on 2-D latents, then both decoders on pixels; sets scale and shift of the video latents.
NamedTensors train_temporal(const ShapesContext& context, models::VideoVaeConfig& vae, const NamedTensors& spatial);
/// The judge on reconstructions; throws DataError below config.gate.
void check_gate(const ShapesContext& context, const models::VideoVae& vae, ResidentWeights& weights);

struct TrainedDenoiser {
  NamedTensors text_encoder, transformer;
};
/// Exports the model at every checkpoint, so that it can be judged while it learns.
TrainedDenoiser train_denoiser(const ShapesContext& context, const models::VideoVaeConfig& vae,
                               const NamedTensors& vae_weights);

/// cached_latents of the world's clips for this autoencoder, with a progress line; between batches CancelledError.
Tensor encoded_clips(const ShapesContext& context, const std::filesystem::path& file, const std::string& label,
                     const models::VideoVaeConfig& vae, const NamedTensors& weights, uint64_t seed, int64_t count,
                     const std::function<Tensor(const Tensor& clips)>& encode);

/// Parameters by name as weights of a model; throws DataError when one is missing.
ResidentWeights weights_from(const Params& params, const NamedTensors& tensors, at::ScalarType dtype,
                             at::Device device);

}  // namespace kinora::train
