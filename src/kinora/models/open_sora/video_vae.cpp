#include "kinora/models/open_sora/video_vae.h"

#include <algorithm>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/tensor/random.h"

namespace kinora::models {
namespace {

/// A constant of the model that a checkpoint may hold: a parameter that starts as the config says and is never trained.
Param constant(const Scope& scope, std::string_view name, const std::vector<double>& values) {
  const auto channels = static_cast<int64_t>(values.size());
  const auto fill = [values](Tensor& out, at::Generator&) { out.copy_(at::tensor(values).view(out.sizes())); };
  return scope.param(name, {1, channels, 1, 1, 1}, {.init = fill, .trainable = false, .optional = true});
}

}  // namespace

VideoVaeConfig VideoVaeConfig::from_json(const Json& json, const std::string& what) {
  const JsonObject object(json, what);
  VideoVaeConfig c;
  if (object.has("vae_2d")) {
    const JsonObject nested = object.require_object("vae_2d");
    Json own = nested.json();
    c.micro_batch_size = nested.int_or("micro_batch_size", c.micro_batch_size, 1, 1 << 20);
    c.parts.tiling = nested.bool_or("tiling", false);
    c.parts.tile_sample_size = nested.int_or("tile_sample_size", 0, 0, 1 << 20);
    own.erase("tiling");
    own.erase("tile_sample_size");
    c.spatial = AutoencoderKlConfig::from_json(own, concat(what, ": vae_2d"), c.spatial);
  }
  if (const Json* nested = object.find("vae_temporal"))
    c.temporal = TemporalVaeConfig::from_json(*nested, concat(what, ": vae_temporal"));
  c.spatial_scaling_factor = object.number_or("spatial_scaling_factor", c.spatial_scaling_factor);
  if (c.spatial_scaling_factor == 0) throw DataError(concat(what, ": spatial_scaling_factor is zero"));
  c.micro_batch_size = object.int_or("micro_batch_size", c.micro_batch_size, 1, 1 << 20);
  const bool whole = json.contains("micro_frame_size") && json.at("micro_frame_size").is_null();
  c.micro_frame_size = whole ? 0 : object.int_or("micro_frame_size", c.micro_frame_size, 0, 1 << 20);
  c.scale = object.numbers_or("scale", c.scale);
  c.shift = object.numbers_or("shift", c.shift);
  const auto channels = static_cast<size_t>(c.temporal.embed_dim);
  if (c.scale.size() == 1) c.scale.resize(channels, c.scale[0]);
  if (c.shift.size() == 1) c.shift.resize(channels, c.shift[0]);
  if (c.scale.size() != channels || c.shift.size() != channels) {
    throw DataError(concat(what, ": scale and shift need ", channels, " numbers, one for each latent channel"));
  }
  if (std::find(c.scale.begin(), c.scale.end(), 0.0) != c.scale.end())
    throw DataError(concat(what, ": scale has a zero"));
  if (c.spatial.latent_channels != c.temporal.in_out_channels) {
    throw DataError(concat(what, ": vae_2d has ", c.spatial.latent_channels, " latent channels, vae_temporal takes ",
                           c.temporal.in_out_channels));
  }
  object.ignore({"micro_frame_size", "model_type", "architectures", "torch_dtype", "transformers_version",
                 "from_pretrained", "freeze_vae_2d", "cal_loss"});
  object.warn_unknown();
  return c;
}

Json VideoVaeConfig::to_json() const {
  Json spatial_json = spatial.to_json();
  spatial_json["micro_batch_size"] = micro_batch_size;
  if (parts.tiling) spatial_json["tiling"] = true;
  if (parts.tile_sample_size > 0) spatial_json["tile_sample_size"] = parts.tile_sample_size;
  return {{"model_type", "VideoAutoencoderPipeline"},
          {"vae_2d", spatial_json},
          {"vae_temporal", temporal.to_json()},
          {"spatial_scaling_factor", spatial_scaling_factor},
          {"micro_frame_size", micro_frame_size > 0 ? Json(micro_frame_size) : Json()},
          {"scale", scale},
          {"shift", shift}};
}

VideoVae::VideoVae(const VideoVaeConfig& config)
    : config_(config),
      spatial_(Scope(params_) / "spatial_vae" / "module", config.spatial),
      temporal_(Scope(params_) / "temporal_vae", config.temporal),
      scale_(constant(Scope(params_), "scale", config.scale)),
      shift_(constant(Scope(params_), "shift", config.shift)) {}

std::array<int64_t, 3> VideoVae::latent_size(const std::array<int64_t, 3>& size) const {
  const auto [frames, height, width] = size;
  if (frames < 1 || height < downscale() || width < downscale()) {
    throw UsageError(concat("a clip of ", frames, " frames of ", height, "x", width, " pixels has no latents"),
                     concat("Give at least one frame of ", downscale(), "x", downscale(), " pixels."));
  }
  const int64_t chunk = config_.micro_frame_size > 0 ? config_.micro_frame_size : frames;
  const int64_t latent_frames =
      (frames / chunk) * temporal_.latent_frames(chunk) + temporal_.latent_frames(frames % chunk);
  return {latent_frames, height / downscale(), width / downscale()};
}

KlParts VideoVae::parts() const {
  KlParts parts = config_.parts;
  parts.micro_batch = config_.micro_batch_size;
  return parts;
}

Tensor VideoVae::encode_frames(const Run& run, const Tensor& pixels, const Tensor& noise) const {
  const int64_t batch = pixels.size(0), frames = pixels.size(2);
  const Tensor pictures = pixels.transpose(1, 2).flatten(0, 1);  // a view for one clip
  const DiagonalGaussian posterior = spatial_.encode(run, pictures, parts());
  const Tensor z = (noise.defined() ? posterior.sample(noise) : posterior.mode()) * config_.spatial_scaling_factor;
  return z.unflatten(0, {batch, frames}).transpose(1, 2);
}

Tensor VideoVae::encode(const Run& run, const Tensor& pixels, const VideoNoise* noise) const {
  if (pixels.dim() != 5 || pixels.size(0) < 1 || pixels.size(1) != config_.spatial.in_channels) {
    throw UsageError(concat("pixels of shape ", pixels.sizes(), " are no clip"),
                     concat("The video autoencoder takes [B, ", config_.spatial.in_channels, ", frames, H, W]."));
  }
  const int64_t frames = pixels.size(2);
  const int64_t latent_frames = latent_size({frames, pixels.size(3), pixels.size(4)})[0];
  if (noise && (noise->temporal.dim() != 5 || noise->temporal.size(2) != latent_frames)) {
    throw UsageError(
        concat("temporal noise of shape ", noise->temporal.sizes(), " for ", latent_frames, " latent frames"));
  }
  const Tensor pictures = encode_frames(run, pixels, noise ? noise->spatial : Tensor());
  const int64_t chunk = config_.micro_frame_size > 0 ? config_.micro_frame_size : frames;
  std::vector<Tensor> latents;
  int64_t done = 0;
  for (int64_t begin = 0; begin < frames; begin += chunk) {
    if (run.cancel.stop_requested()) throw CancelledError();
    const DiagonalGaussian posterior =
        temporal_.encode(run, pictures.narrow(2, begin, std::min(chunk, frames - begin)));
    const int64_t count = posterior.moments.size(2);
    latents.push_back(noise ? posterior.sample(noise->temporal.narrow(2, done, count)) : posterior.mode());
    done += count;
  }
  return (at::cat(latents, 2) - run.weights->get(shift_)) / run.weights->get(scale_);
}

VideoNoise VideoVae::draw_noise(int64_t batch, const std::array<int64_t, 3>& size, at::Generator& generator,
                                at::ScalarType dtype, at::Device device) const {
  const auto [t, h, w] = latent_size(size);
  VideoNoise noise;
  noise.spatial = randn({batch * size[0], config_.spatial.latent_channels, h, w}, generator, dtype, device);
  noise.temporal = randn({batch, latent_channels(), t, h, w}, generator, dtype, device);
  return noise;
}

Tensor VideoVae::decode_time(const Run& run, const Tensor& chunk, int64_t num_frames) const {
  const Tensor z = chunk * run.weights->get(scale_) + run.weights->get(shift_);
  return temporal_.decode(run, z, num_frames) / config_.spatial_scaling_factor;
}

Tensor VideoVae::decode_space(const Run& run, const Tensor& pictures) const {
  const Tensor frames = spatial_.decode(run, pictures.transpose(1, 2).flatten(0, 1).contiguous(), parts());
  return frames.unflatten(0, {pictures.size(0), pictures.size(2)}).transpose(1, 2);
}

void VideoVae::decode_chunks(const Run& run, const Tensor& latents, int64_t num_frames,
                             const OnFrames& on_frames) const {
  const int64_t factor = downscale();
  const bool is_clip =
      latents.dim() == 5 && latents.size(1) == latent_channels() && latents.numel() > 0 && num_frames > 0;
  if (!is_clip || latents.size(2) != latent_size({num_frames, factor * latents.size(3), factor * latents.size(4)})[0]) {
    throw UsageError(
        concat("latents of shape ", latents.sizes(), " do not hold a clip of ", num_frames, " frames"),
        concat("The video autoencoder takes [B, ", latent_channels(), ", T, h, w], T as latent_size says."));
  }
  const int64_t batch = latents.size(0);
  const int64_t chunk = config_.micro_frame_size > 0 ? config_.micro_frame_size : num_frames;
  const int64_t latent_chunk = temporal_.latent_frames(chunk);
  const int64_t at_once = std::max<int64_t>(1, config_.micro_batch_size / batch);
  for (int64_t begin = 0, latent = 0; begin < num_frames; begin += chunk, latent += latent_chunk) {
    if (run.cancel.stop_requested()) throw CancelledError();
    const Tensor part = latents.narrow(2, latent, std::min(latent_chunk, latents.size(2) - latent));
    const Tensor pictures = decode_time(run, part, std::min(chunk, num_frames - begin));
    for (int64_t t = 0; t < pictures.size(2); t += at_once)
      on_frames(decode_space(run, pictures.narrow(2, t, std::min(at_once, pictures.size(2) - t))), begin + t);
  }
}

Tensor VideoVae::decode(const Run& run, const Tensor& latents, int64_t num_frames) const {
  std::vector<Tensor> chunks;
  decode_chunks(run, latents, num_frames, [&](Tensor frames, int64_t) { chunks.push_back(std::move(frames)); });
  return at::cat(chunks, 2);
}

}  // namespace kinora::models
