#include <ATen/core/grad_mode.h>

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/tensor/random.h"
#include "kinora/train/shapes_data.h"
#include "kinora/train/shapes_stages.h"
#include "kinora/world/judge.h"

namespace kinora::train {
namespace {

constexpr double kFullFramesFrom = 0.75;  // share of the picture stage after which whole frames are seen
constexpr int64_t kStatisticsClips = 64;

// Streams of samples that no stage shares with another.
constexpr uint64_t kSpatialSeed = 0x51, kTemporalSeed = 0x7e, kStatisticsSeed = 0x57a7, kGateSeed = 0x9a7e;

Tensor total_variation_error(const Tensor& difference) {
  return at::diff(difference, 1, -1).abs().mean() + at::diff(difference, 1, -2).abs().mean();
}

Tensor picture_loss(const Tensor& made, const Tensor& wanted, const Tensor& foreground, const PictureLoss& weights) {
  const Tensor difference = made.to(at::kFloat) - wanted, weight = 1 + (weights.foreground - 1) * foreground;
  return weights.l1 * (difference.abs() * weight).mean() + weights.l2 * (difference.square() * weight).mean() +
         weights.gradient * total_variation_error(difference);
}

Tensor kl_per_element(const models::DiagonalGaussian& posterior) {
  const Tensor mean = posterior.mean().to(at::kFloat), logvar = posterior.logvar().to(at::kFloat);
  return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean();
}

Tensor sampled(const models::DiagonalGaussian& posterior, at::Generator& generator) {
  const Tensor mean = posterior.mean();
  return posterior.sample(randn(mean.sizes(), generator, mean.scalar_type(), mean.device()));
}

/// [B, C, F, H, W] -> [B F, C, H, W] and back.
Tensor as_pictures(const Tensor& clips) { return clips.transpose(1, 2).flatten(0, 1); }
Tensor as_clips(const Tensor& pictures, int64_t batch) { return pictures.unflatten(0, {batch, -1}).transpose(1, 2); }

bool is_inner_matrix(const Param& p) {
  return p.name.ends_with(".weight") && p.name.find("conv_in") == std::string::npos &&
         p.name.find("conv_out") == std::string::npos;
}

std::vector<int64_t> range(int64_t count) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) indices[static_cast<size_t>(i)] = i;
  return indices;
}

/// Puts a buffer's values [1, C, 1, 1, 1] among the weights; returns them for the config.
std::vector<double> normalize(NamedTensors& tensors, const std::string& name, const Tensor& value) {
  for (auto& [n, tensor] : tensors) {
    if (n == name) tensor = value.cpu();
  }
  const Tensor flat = value.flatten().to(at::kCPU, at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

}  // namespace

NamedTensors train_spatial(const ShapesContext& context, models::VideoVaeConfig& vae) {
  const ShapesConfig& config = context.config;
  const ShapesOptions& options = context.options;
  const models::VideoVae model(vae);
  StageOptions stage = config.spatial;
  stage.optimizer.use_muon = is_inner_matrix;
  Trainable trainable(model.params(), init_weights(model.params(), static_cast<uint64_t>(config.seed)), config.dtype,
                      options.device, stage.optimizer);
  const int64_t whole_side = std::min(config.world.height, config.world.width);
  const auto loss = [&](const Part& part) {
    const bool whole = static_cast<double>(part.step) >= kFullFramesFrom * static_cast<double>(stage.steps);
    const int64_t side = whole ? whole_side : std::min(config.crops_side, whole_side);
    const int64_t count = std::max<int64_t>(1, part.batch * config.crops_side * config.crops_side / (side * side));
    const int64_t begin = part.step * stage.batch + part.index * part.batch;
    const Crops crops = crop_batch(config.world, kSpatialSeed, begin, count, config.crops_per_clip, side);
    const Run run{.weights = &trainable.weights(part.index)};
    const Tensor pixels = crops.pixels.to(options.device);
    const auto posterior = model.spatial().encode(run, pixels.to(config.dtype));
    const Tensor made = model.spatial().decode(run, sampled(posterior, part.generator));
    return picture_loss(made, pixels, crops.foreground.to(options.device), config.picture_loss) +
           config.picture_loss.kl * kl_per_element(posterior);
  };
  run_stage(stage, {&trainable}, loss, context.hooks(stage.name));

  at::NoGradGuard no_grad;
  auto weights = trainable.averaged(config.dtype);
  const Run run{.weights = &weights};
  const Crops frames = crop_batch(config.world, kStatisticsSeed, 0, kStatisticsClips, 1, whole_side);
  const Tensor latents =
      model.spatial().encode(run, frames.pixels.to(options.device, config.dtype)).mean().to(at::kFloat);
  vae.spatial_scaling_factor = 1.0 / latents.std().item<double>();
  return trainable.averaged_tensors(at::kFloat);
}

NamedTensors train_temporal(const ShapesContext& context, models::VideoVaeConfig& vae, const NamedTensors& spatial) {
  const ShapesConfig& config = context.config;
  const ShapesOptions& options = context.options;
  const models::VideoVae model(vae);
  StageOptions stage = config.temporal;
  stage.optimizer.use_muon = is_inner_matrix;
  Trainable trainable(model.params(), weights_from(model.params(), spatial, at::kFloat, at::kCPU), config.dtype,
                      options.device, stage.optimizer);

  auto fixed = weights_from(model.params(), spatial, config.dtype, options.device);
  const Run encoding{.weights = &fixed};
  const auto encode_pictures = [&](const Tensor& clips) {
    at::NoGradGuard no_grad;
    const Tensor pictures = as_pictures(clips.to(options.device, config.dtype));
    return as_clips(model.spatial().encode(encoding, pictures).mean() * vae.spatial_scaling_factor, clips.size(0));
  };
  const Tensor latents = encoded_clips(context, options.folder / stage.name / "pictures.safetensors", "pictures", vae,
                                       spatial, kTemporalSeed, config.temporal_clips, encode_pictures);
  const auto pick = [&](at::Generator& generator, int64_t batch) {
    return at::randint(0, latents.size(0), {batch}, generator, at::kLong);
  };
  const auto reconstruct = [&](const Run& run, const Tensor& x, at::Generator& generator,
                               models::DiagonalGaussian& posterior) {
    posterior = model.temporal().encode(run, x);
    return model.temporal().decode(run, sampled(posterior, generator), x.size(2));
  };
  const auto loss = [&](const Part& part) {
    const Tensor x = latents.index_select(0, pick(part.generator, part.batch)).to(options.device, config.dtype);
    const Run run{.weights = &trainable.weights(part.index)};
    models::DiagonalGaussian posterior;
    const Tensor difference = reconstruct(run, x, part.generator, posterior).to(at::kFloat) - x.to(at::kFloat);
    return difference.square().mean() + 0.3 * difference.abs().mean() + config.temporal_kl * kl_per_element(posterior);
  };
  run_stage(stage, {&trainable}, loss, context.hooks(stage.name));
  NamedTensors trained = trainable.averaged_tensors(at::kFloat);

  if (config.finetune.steps > 0) {
    // The picture decoder has seen exact latents only; here both decoders learn what the pair makes of whole clips.
    StageOptions fine = config.finetune;
    fine.optimizer.use_muon = is_inner_matrix;
    Trainable pair(model.params(), weights_from(model.params(), trained, at::kFloat, at::kCPU), config.dtype,
                   options.device, fine.optimizer);
    const auto pixel_loss = [&](const Part& part) {
      const Tensor which = pick(part.generator, part.batch);
      const Tensor pixels =
          clip_batch(config.world, kTemporalSeed, {which.const_data_ptr<int64_t>(), static_cast<size_t>(which.numel())})
              .to(options.device);
      const Tensor x = latents.index_select(0, which).to(options.device, config.dtype);
      const Run run{.weights = &pair.weights(part.index)};
      models::DiagonalGaussian posterior;
      const Tensor pictures = reconstruct(run, x, part.generator, posterior) / vae.spatial_scaling_factor;
      const Tensor made = model.spatial().decode(run, as_pictures(pictures));
      return picture_loss(made, as_pictures(pixels), at::zeros({1}, pixels.options()), config.picture_loss) +
             config.temporal_kl * kl_per_element(posterior);
    };
    run_stage(fine, {&pair}, pixel_loss, context.hooks(fine.name));
    trained = pair.averaged_tensors(at::kFloat);
  }

  at::NoGradGuard no_grad;
  auto weights = weights_from(model.params(), trained, config.dtype, options.device);
  const Run run{.weights = &weights};
  const auto indices = range(kStatisticsClips);
  const Tensor pictures = encode_pictures(clip_batch(config.world, kStatisticsSeed, indices));
  const Tensor z = model.temporal().encode(run, pictures).mean().to(at::kFloat);
  vae.shift = normalize(trained, "shift", z.mean({0, 2, 3, 4}, true));
  vae.scale = normalize(trained, "scale", z.std({0, 2, 3, 4}, true, true));
  return trained;
}

void check_gate(const ShapesContext& context, const models::VideoVae& vae, ResidentWeights& weights) {
  const ShapesConfig& config = context.config;
  const ShapesOptions& options = context.options;
  at::NoGradGuard no_grad;
  const Run run{.weights = &weights, .cancel = options.cancel};
  int64_t shape = 0, colour = 0, motion = 0, background = 0;
  for (int64_t i = 0; i < config.gate_clips; ++i) {
    const auto sample = world::sample(config.world, kGateSeed, static_cast<uint64_t>(i), world::Split::train);
    const Tensor pixels = media::to_tensor(sample.clip).unsqueeze(0).to(options.device, config.dtype);
    const Tensor made = vae.decode(run, vae.encode(run, pixels), config.world.frames);
    const auto score =
        world::compare(world::judge(config.world, media::to_frames(made[0], config.world.fps)), sample.scene);
    shape += score.shape, colour += score.colour, motion += score.motion, background += score.background;
  }
  const auto share = [&](int64_t right) { return static_cast<double>(right) / static_cast<double>(config.gate_clips); };
  const std::string reading =
      concat("judge on ", config.gate_clips, " reconstructions: shape ", share(shape), ", colour ", share(colour),
             ", motion ", share(motion), ", background ", share(background));
  log_info(reading);
  if (std::min({share(shape), share(colour), share(motion), share(background)}) < config.gate) {
    throw DataError(
        concat("the autoencoder misses the gate of ", config.gate, "; ", reading),
        "the denoiser cannot be better than this: train the autoencoder longer, or choose a friendlier world");
  }
}

}  // namespace kinora::train
