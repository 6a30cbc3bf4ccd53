#include <cmath>

#include "kinora/diffusion/rflow.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/nn/load.h"
#include "kinora/tensor/random.h"
#include "kinora/text/tokenizer_json.h"
#include "kinora/train/shapes_data.h"
#include "kinora/train/shapes_stages.h"

namespace kinora::train {
namespace {

constexpr uint64_t kLatentSeed = 0x1a7e;
constexpr double kImageFps = 120, kTrainTimesteps = 1000;

/// Times of a batch, [B] in 0 .. 1000: one normal quantile out of each of B equal slices, so that every step sees all noise levels.
Tensor draw_times(int64_t batch, const TimeDraw& draw, at::Generator& generator) {
  const Tensor u =
      (at::arange(batch, at::kDouble) + at::rand({batch}, generator, at::kDouble)) / static_cast<double>(batch);
  const Tensor normal = std::sqrt(2.0) * at::erfinv((2 * u - 1).clamp(-1 + 1e-9, 1 - 1e-9));
  return (at::sigmoid(draw.mean + draw.std * normal) * kTrainTimesteps).to(at::kFloat);
}

/// One latent frame of each clip [B, C, T, H, W] -> [B, C, 1, H, W], and the frame rate that the model is told, [B]. Half
/// are the first: alone it is a picture. The others are drawn from all, for most latents hold several frames.
std::pair<Tensor, Tensor> one_frame_of_each(const Tensor& latents, double fps, at::Generator& generator) {
  const int64_t batch = latents.size(0);
  const Tensor is_picture = at::rand({batch}, generator).lt(0.5);
  const Tensor drawn = at::randint(0, latents.size(2), {batch}, generator, at::kLong);
  const Tensor frame = drawn.masked_fill(is_picture, 0).view({batch, 1, 1, 1, 1}).to(latents.device());
  return {latents.take_along_dim(frame, 2), at::full({batch}, fps).masked_fill(is_picture, kImageFps)};
}

/// Which of T latent frames are to be denoised, [B, T] bool: one to three at the beginning are given, and of every third
/// clip one or two at the end, as for clips that begin with a picture, go on from another, or lead to one.
Tensor draw_given(int64_t batch, int64_t frames, at::Generator& generator) {
  Tensor is_free = at::ones({batch, frames}, at::kBool);
  const auto draw = [&](int64_t low, int64_t high) {
    return at::randint(low, high + 1, {1}, generator, at::kLong).item<int64_t>();
  };
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t head = std::min<int64_t>(draw(1, 3), frames - 1);
    const int64_t tail = draw(0, 2) > 0 ? 0 : std::min<int64_t>(draw(1, 2), frames - 1 - head);
    is_free[b].narrow(0, 0, head).fill_(false);
    if (tail > 0) is_free[b].narrow(0, frames - tail, tail).fill_(false);
  }
  return is_free;
}

/// The scenes that the latents show, and which of them a step draws.
class Clips {
 public:
  Clips(const ShapesConfig& config, int64_t count) : pairs_(config.pairs) {
    std::vector<int64_t> singles, pairs;
    for (int64_t i = 0; i < count; ++i) {
      scenes_.push_back(world::sample_scene(config.world, kLatentSeed, static_cast<uint64_t>(i), world::Split::train));
      (scenes_.back().objects.size() > 1 ? pairs : singles).push_back(i);
    }
    singles_ = at::tensor(singles, at::kLong);
    pair_clips_ = at::tensor(pairs, at::kLong);
    if (singles.empty() || pairs.empty()) pairs_.reset();  // there is nothing to choose between
  }

  const world::Scene& scene(int64_t index) const { return scenes_[static_cast<size_t>(index)]; }

  /// [B] indices.
  Tensor draw(int64_t batch, at::Generator& generator) const {
    const auto of = [&](int64_t count) { return at::randint(0, count, {batch}, generator, at::kLong); };
    if (!pairs_) return of(static_cast<int64_t>(scenes_.size()));
    const Tensor single = singles_.index_select(0, of(singles_.size(0)));
    const Tensor pair = pair_clips_.index_select(0, of(pair_clips_.size(0)));
    return at::where(at::rand({batch}, generator).lt(*pairs_), pair, single);
  }

 private:
  std::optional<double> pairs_;
  std::vector<world::Scene> scenes_;
  Tensor singles_, pair_clips_;
};

bool is_block_matrix(const Param& p) {
  return p.name.find("blocks.") != std::string::npos && p.name.ends_with(".weight") && p.shape.size() == 2;
}

Tensor encode_clips(const ShapesContext& context, const models::VideoVaeConfig& config,
                    const NamedTensors& vae_weights) {
  const models::VideoVae vae(config);
  const auto& options = context.options;
  auto weights = weights_from(vae.params(), vae_weights, context.config.dtype, options.device);
  check_gate(context, vae, weights);
  const Run run{.weights = &weights};
  return encoded_clips(context, options.folder / "latents.safetensors", "latents", config, vae_weights, kLatentSeed,
                       context.config.latents, [&](const Tensor& clips) {
                         return vae.encode(run, clips.to(options.device, context.config.dtype));
                       });
}

}  // namespace

TrainedDenoiser train_denoiser(const ShapesContext& context, const models::VideoVaeConfig& vae,
                               const NamedTensors& vae_weights) {
  const ShapesConfig& config = context.config;
  const ShapesOptions& options = context.options;
  const Tensor latents = encode_clips(context, vae, vae_weights);
  const Clips clips(config, latents.size(0));
  const auto tokenizer_json = world::tokenizer_json(config.world);
  const text::Tokenizer tokenizer(text::parse_tokenizer_json(tokenizer_json, "tokenizer.json"));

  const text::T5Encoder encoder(text::T5Config::from_json(config.text_encoder, "text_encoder"));
  const models::STDiT3 model(config.transformer);
  StageOptions stage = config.denoiser;
  stage.optimizer.use_muon = is_block_matrix;
  OptimizerOptions text_optimizer = stage.optimizer;
  text_optimizer.lr *= config.text_lr_factor;
  text_optimizer.muon_lr = 0;
  const auto seed = static_cast<uint64_t>(config.seed);
  const auto start = [&](const Params& params, const char* part, uint64_t part_seed) {
    if (options.from.empty()) return init_weights(params, part_seed);
    return load_weights(params, Checkpoint(options.from / part));
  };
  Trainable text_trainable(encoder.params(), start(encoder.params(), "text_encoder", seed + 1), config.dtype,
                           options.device, text_optimizer);
  Trainable trainable(model.params(), start(model.params(), "transformer", seed + 2), config.dtype, options.device,
                      stage.optimizer);

  const auto height = static_cast<double>(config.world.height), width = static_cast<double>(config.world.width);
  const int64_t max_tokens = config.transformer.model_max_length;
  const RFlow flow(1);
  const auto loss = [&](const Part& part) {
    const bool pictures =
        part.step < config.picture_steps || (config.picture_every > 0 && part.step % config.picture_every == 0);
    const int64_t batch = pictures ? config.picture_batch / stage.parts : part.batch;
    at::Generator& generator = part.generator;
    const Tensor which = clips.draw(batch, generator);
    std::vector<std::string> captions;
    for (int64_t b = 0; b < batch; ++b) {
      const auto phrasing =
          static_cast<uint64_t>(at::randint(0, int64_t{1} << 40, {1}, generator, at::kLong).item<int64_t>());
      captions.push_back(world::caption(clips.scene(which[b].item<int64_t>()), phrasing));
    }
    const Tokens tokens = tokenize(tokenizer, captions, max_tokens);
    const Run text_run{.weights = &text_trainable.weights(part.index)};
    Tensor caption =
        encoder.forward(text_run, tokens.ids.to(options.device), tokens.mask.to(options.device)).unsqueeze(1);
    const Run run{.weights = &trainable.weights(part.index)};
    const Tensor dropped =
        at::rand({batch, 1, 1, 1}, generator).lt(config.transformer.class_dropout_prob).to(options.device);
    caption = at::where(dropped, run.weights->get(model.null_caption()).to(caption.scalar_type()), caption);

    Tensor clean = latents.index_select(0, which).to(options.device, at::kFloat);
    Tensor fps = at::full({batch}, config.world.frames == 1 ? kImageFps : config.world.fps);
    if (pictures) std::tie(clean, fps) = one_frame_of_each(clean, config.world.fps, generator);
    const bool given = !pictures && config.given_every > 0 && part.step % config.given_every == 0 && clean.size(2) > 1;
    const Tensor is_free = given ? draw_given(batch, clean.size(2), generator).to(options.device) : Tensor();
    const Tensor noise = randn(clean.sizes(), generator).to(options.device);
    const Tensor times = draw_times(batch, config.times, generator).to(options.device);
    Tensor noised = flow.add_noise(clean, noise, times);
    if (given) noised = at::where(is_free.view({batch, 1, -1, 1, 1}), noised, clean);
    const Tensor velocity = model.forward(run, {.latents = noised.to(config.dtype),
                                                .timestep = times,
                                                .caption = caption,
                                                .caption_mask = tokens.mask,
                                                .fps = fps.to(options.device),
                                                .height = height,
                                                .width = width});
    return rflow_loss(velocity.narrow(1, 0, clean.size(1)), clean, noise, is_free).mean();
  };
  StageHooks hooks = context.hooks(stage.name);
  hooks.on_checkpoint = [&](int64_t step) {
    export_shapes(config, options.folder / "model", vae, vae_weights, text_trainable.averaged_tensors(at::kFloat),
                  trainable.averaged_tensors(at::kFloat));
    if (options.on_model) options.on_model(step);
  };
  run_stage(stage, {&text_trainable, &trainable}, loss, hooks);
  return {text_trainable.averaged_tensors(at::kFloat), trainable.averaged_tensors(at::kFloat)};
}

}  // namespace kinora::train
