// The built-in model's training: a video autoencoder in two stages (pictures, then time), a gate on it, and the denoiser
// with its text encoder on cached latents. A stage that has its weights is skipped, one that was cut short resumes.
//
// A folder belongs to one config, kept in its config.json, and to one run at a time. A run that goes on may change what
// is still to come and nothing that was made: every key of a stage without weights (the denoiser never has them, so that
// its steps can always grow), the gate, `shift` and `defaults`. What all stages share (world, models, dtype, seed, the model to
// go on from) never changes.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <optional>
#include <stop_token>
#include <string>

#include "kinora/base/json.h"
#include "kinora/models/open_sora/config.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/text/t5.h"
#include "kinora/train/stage.h"
#include "kinora/world/world.h"

namespace kinora::train {

/// Weights of the picture autoencoder's loss; foreground pixels count `foreground` times.
struct PictureLoss {
  double l1 = 1.0, l2 = 1.0, gradient = 0.5, foreground = 4.0, kl = 1e-3;
};

/// Times of the rectified flow: sigmoid(mean + std * normal), stratified over the batch (Esser et al. 2024, section 3.1).
struct TimeDraw {
  double mean = 0.4, std = 1.0;
};

struct ShapesConfig {
  Json json;  ///< what it was read from
  world::WorldConfig world;
  models::VideoVaeConfig vae;
  models::STDiT3Config transformer;
  Json text_encoder;  ///< config.json of a T5; its vocab_size follows from the world
  at::ScalarType dtype = at::kBFloat16;
  int64_t seed = 0;  ///< of the first weights, and of each stage's draws where the stage has none of its own
  StageOptions spatial, temporal, finetune, denoiser;
  int64_t crops_side = 32, crops_per_clip = 5;
  PictureLoss picture_loss;
  double temporal_kl = 5e-4;
  int64_t temporal_clips = 400;  ///< distinct clips that the temporal stage sees
  double gate = 0.97;            ///< share of right attributes that the judge must read on reconstructions
  int64_t gate_clips = 48;
  int64_t latents = 8000;       ///< clips encoded for the denoiser
  int64_t picture_steps = 0;    ///< first steps of the denoiser on single latent frames: shape and colour are all there
  int64_t picture_every = 0;    ///< later every n-th step is on single frames, too; 0: none
  int64_t picture_batch = 0;    ///< frames in such a step, each of a clip of its own; a frame costs a clip's share
  int64_t given_every = 0;      ///< every n-th step on clips is given some latent frames clean; 0: none
  std::optional<double> pairs;  ///< share of a step's clips that show two objects; the world's where it is not set
  TimeDraw times;
  double text_lr_factor = 0.3;  ///< of the denoiser's rate, for the text encoder
  double shift = 1;             ///< of the sampler's times: diffusion/rflow.h
  Json defaults;                ///< what `generate` uses when it is not told otherwise; written into model_index.json

  /// Throws DataError naming the key: for sizes that do not fit each other, too, before hours of training find out.
  static ShapesConfig from_json(const Json& json, const std::string& what);
};

struct ShapesOptions {
  std::filesystem::path folder;  ///< checkpoints, caches and, at the end, `model/`
  std::filesystem::path
      from;  ///< a model of the same config to go on from: its autoencoder is kept, the rest trains on; or empty
  at::Device device = at::kCPU;
  std::ostream* progress = nullptr;
  std::stop_token cancel;
  /// Called when folder/model is the denoiser's of `step`, so that it can be looked at while it learns.
  std::function<void(int64_t step)> on_model;
};

/// Runs every stage that is not done and writes folder/model in the layout that `generate --model` takes. Throws
/// UsageError when another run is in the folder or when it was begun with another config, DataError where `from` or a
/// stage's weights are of another model, when the gate is missed and when a stage diverges, CancelledError after a
/// checkpoint, ResourceError for the disk.
void train_shapes(const ShapesConfig& config, const ShapesOptions& options);

/// Writes the model as it is at this moment of the denoiser's training; the folder is replaced as a whole.
void export_shapes(const ShapesConfig& config, const std::filesystem::path& folder,
                   const models::VideoVaeConfig& vae_config, const NamedTensors& vae, const NamedTensors& text_encoder,
                   const NamedTensors& transformer);

}  // namespace kinora::train
