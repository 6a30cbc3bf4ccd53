#include "kinora/video/pipeline.h"

#include <ATen/core/grad_mode.h>

#include <map>
#include <set>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/utf8.h"
#include "kinora/diffusion/sampler.h"
#include "kinora/diffusion/schedulers.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/nn/load.h"
#include "kinora/tensor/allocator.h"
#include "kinora/tensor/random.h"
#include "kinora/text/tokenizer.h"
#include "kinora/video/stdit3_denoiser.h"

namespace kinora::video {
namespace {

namespace fs = std::filesystem;

uint64_t bytes_of(const Params& params, at::ScalarType dtype) {
  return static_cast<uint64_t>(params.num_elements()) * static_cast<uint64_t>(c10::elementSize(dtype));
}

/// A part's weights: checked when it is made, read when they are first needed.
struct Part {
  Part(const Params& parameters, const fs::path& folder, const kinora::LoadOptions& load_options)
      : params(&parameters), checkpoint(folder), options(load_options) {
    check_weights(*params, checkpoint, options);
  }

  ResidentWeights& loaded() {
    if (!weights) {
      const CountAs counted(MemoryKind::weights);
      weights = load_weights(*params, checkpoint, options);
    }
    return *weights;
  }

  const Params* params;
  Checkpoint checkpoint;
  kinora::LoadOptions options;
  std::optional<ResidentWeights> weights;
};

/// A whole T5 holds a decoder that nobody asks for.
std::vector<std::string> decoder_names(const fs::path& folder) {
  std::vector<std::string> names;
  const Checkpoint checkpoint(folder);
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (name.starts_with("decoder.") || name == "lm_head.weight") names.push_back(name);
  }
  return names;
}

/// Overflow in a narrow dtype would otherwise end as a picture of nothing.
void require_finite(const Tensor& values, at::ScalarType dtype) {
  if (at::isfinite(values).all().item<bool>()) return;
  throw DataError(concat("the model's clip is not finite in ", c10::toString(dtype)),
                  "try --dtype float32; if it stays so, the weights are damaged");
}

double rounded(double value, at::ScalarType dtype) { return at::full({}, value, dtype).item<double>(); }

}  // namespace

at::ScalarType preferred_dtype(at::Device device) {
  if (!device.is_cpu()) return at::kBFloat16;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16")) return at::kBFloat16;
#endif
  return at::kFloat;
}

const char* stage_name(Stage stage) {
  static constexpr const char* kNames[] = {"load", "encode", "denoise", "decode"};
  return kNames[static_cast<int>(stage)];
}

struct Pipeline::State {
  State(const PipelineOptions& options, ModelFolder found)
      : folder(std::move(found)),
        dtype(options.dtype.value_or(preferred_dtype(options.device))),
        device(options.device),
        tokenizer(text::Tokenizer::load(folder.tokenizer)),
        encoder(text::T5Config::from_json(read_json_file(folder.text_encoder / "config.json"),
                                          (folder.text_encoder / "config.json").string())),
        transformer(models::STDiT3Config::from_json(read_config(folder.transformer, "STDiT3"),
                                                    (folder.transformer / "config.json").string())),
        vae(models::VideoVaeConfig::from_json(read_config(folder.vae, "VideoAutoencoderPipeline"),
                                              (folder.vae / "config.json").string())),
        text_part(encoder.params(), folder.text_encoder, load_options(options, decoder_names(folder.text_encoder))),
        transformer_part(transformer.params(), folder.transformer, load_options(options, {})),
        vae_part(vae.params(), folder.vae, load_options(options, {})) {
    check_parts_fit();
    sizes = {.transformer = transformer.config(),
             .vae = vae.config(),
             .text_encoder = encoder.config(),
             .transformer_bytes = bytes_of(transformer.params(), dtype),
             .vae_bytes = bytes_of(vae.params(), dtype),
             .text_bytes = bytes_of(encoder.params(), dtype),
             .element_bytes = static_cast<uint64_t>(c10::elementSize(dtype))};
  }

  kinora::LoadOptions load_options(const PipelineOptions& options, std::vector<std::string> surplus) const {
    return {.dtype = dtype, .device = device, .prefix = {}, .surplus = std::move(surplus), .ledger = options.ledger};
  }

  void check_parts_fit() const {
    const auto refuse = [](const char* what, int64_t a, int64_t b) {
      throw DataError(concat("the parts are not of one model: ", what, " ", a, " and ", b),
                      "take all parts from the same release");
    };
    // STDiT3 predicts data - noise along straight paths; another method would make nothing of it, without an error.
    if (folder.scheduler != "RFLOW") {
      throw UsageError(concat("the scheduler \"", printable(folder.scheduler), "\" does not fit STDiT3"),
                       "OpenSoraPipeline works with RFLOW");
    }
    const auto& pictures = vae.config().spatial;
    if (pictures.in_channels != 3 || pictures.out_channels != 3) {
      throw DataError(
          concat("the autoencoder takes ", pictures.in_channels, " channels and gives ", pictures.out_channels),
          "a model of RGB pictures has 3 and 3");
    }
    const auto& config = transformer.config();
    if (config.caption_channels != encoder.config().d_model)
      refuse("caption width of the transformer and the text encoder", config.caption_channels,
             encoder.config().d_model);
    if (config.in_channels != vae.latent_channels())
      refuse("latent channels of the transformer and the autoencoder", config.in_channels, vae.latent_channels());
    if (tokenizer.vocab_size() > encoder.config().vocab_size)
      refuse("vocabulary of the tokenizer and the text encoder", tokenizer.vocab_size(), encoder.config().vocab_size);
  }

  ResidentWeights& loaded(Part& part, const Hooks& hooks);
  void warn_of_long_texts(const Plan& plan) const;
  std::map<std::string, Tensor> encode(const Plan& plan, const Hooks& hooks);
  Tensor denoise(const Plan& plan, const Hooks& hooks, int64_t first, int64_t count,
                 const std::map<std::string, Tensor>& features, int64_t& calls);
  void decode(const Plan& plan, const Hooks& hooks, int64_t index, Clip& clip, int64_t& frames);

  ModelFolder folder;
  at::ScalarType dtype;
  at::Device device;
  text::Tokenizer tokenizer;
  text::T5Encoder encoder;
  models::STDiT3 transformer;
  models::VideoVae vae;
  Part text_part, transformer_part, vae_part;
  ModelSizes sizes;
};

Pipeline::Pipeline(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;

Pipeline Pipeline::load(const PipelineOptions& options) {
  return Pipeline(std::make_unique<State>(options, find_model(options.paths)));
}

const ModelFolder& Pipeline::folder() const { return state_->folder; }
const ModelSizes& Pipeline::sizes() const { return state_->sizes; }
at::ScalarType Pipeline::dtype() const { return state_->dtype; }

Plan Pipeline::plan(const Request& request) const {
  Plan plan = make_plan(request, state_->folder.defaults, state_->vae.downscale());
  plan.scheduler =
      make_scheduler(state_->folder.scheduler, state_->folder.scheduler_config, static_cast<int>(plan.steps),
                     {.height = static_cast<double>(plan.height),
                      .width = static_cast<double>(plan.width),
                      .num_frames = plan.num_frames,
                      .dtype = state_->dtype});
  // Weights that are loaded already are part of what the process holds.
  ModelSizes sizes = state_->sizes;
  if (state_->text_part.weights) sizes.text_bytes = 0;
  if (state_->transformer_part.weights) sizes.transformer_bytes = 0;
  if (state_->vae_part.weights) sizes.vae_bytes = 0;
  const Fit fit = fit_into(sizes, plan, memory_room(request.memory, state_->device));
  plan.batch = fit.batch;
  plan.one_by_one = fit.one_by_one;
  state_->warn_of_long_texts(plan);
  return plan;
}

std::pair<int64_t, int64_t> Pipeline::frame_size(const Plan& plan) const {
  const int64_t block = state_->vae.downscale();
  return {plan.height / block * block, plan.width / block * block};
}

media::Metadata Pipeline::metadata(const Plan& plan, int64_t index) const {
  const State& s = *state_;
  Json settings = {{"height", plan.height},
                   {"width", plan.width},
                   {"num_frames", plan.num_frames},
                   {"steps", plan.steps},
                   {"guidance_scale", plan.guidance_scale},
                   {"fps", plan.fps},
                   {"dtype", c10::toString(s.dtype)},
                   {"scheduler", s.folder.scheduler},
                   {"text", plan.texts.at(index)}};
  if (plan.negative_text) settings["negative_prompt"] = *plan.negative_text;
  media::Metadata m;
  m.prompt = plan.prompts.at(index);
  m.model = s.folder.name;
  m.seed = plan.seed + static_cast<uint64_t>(index);
  m.settings = settings.dump(-1, ' ', true, Json::error_handler_t::replace);
  m.frames = plan.num_frames;  // a writer of streams does not know how many will come
  return m;
}

/// The part's weights, read now if nobody needed them before. Reading one cannot be stopped.
ResidentWeights& Pipeline::State::loaded(Part& part, const Hooks& hooks) {
  if (part.weights) return *part.weights;
  if (hooks.cancel.stop_requested()) throw CancelledError();
  if (hooks.on_progress) hooks.on_progress(Stage::load, 0, 1);
  ResidentWeights& weights = part.loaded();
  if (hooks.on_progress) hooks.on_progress(Stage::load, 1, 1);
  if (hooks.cancel.stop_requested()) throw CancelledError();
  return weights;
}

void Pipeline::State::warn_of_long_texts(const Plan& plan) const {
  const int64_t most = transformer.config().model_max_length;
  std::set<std::string> texts(plan.texts.begin(), plan.texts.end());
  if (plan.negative_text && plan.is_guided()) texts.insert(*plan.negative_text);
  for (const std::string& text : texts) {
    const auto tokens = static_cast<int64_t>(tokenizer.encode(text).ids.size());
    if (tokens > most)
      log_warn(concat("the prompt \"", printable(text, 40), "\" has ", tokens, " tokens; the model reads ", most,
                      ", the last ", tokens - most, " are dropped"));
  }
}

/// Features [tokens, width] of every text, each encoded alone: a clip must not depend on its neighbours' lengths.
std::map<std::string, Tensor> Pipeline::State::encode(const Plan& plan, const Hooks& hooks) {
  std::vector<std::string> texts = plan.texts;
  if (plan.negative_text && plan.is_guided()) texts.push_back(*plan.negative_text);
  std::map<std::string, Tensor> features;
  Run run;
  run.weights = &loaded(text_part, hooks);
  run.cancel = hooks.cancel;
  const int64_t longest = transformer.config().model_max_length;
  int64_t done = 0;
  if (hooks.on_progress) hooks.on_progress(Stage::encode, 0, static_cast<int64_t>(texts.size()));
  for (const std::string& text : texts) {
    if (hooks.cancel.stop_requested()) throw CancelledError();
    if (!features.contains(text)) {
      const text::Encoded ids = tokenizer.encode(text, {.max_length = longest});
      const Tensor input = at::tensor(ids.ids, at::kLong).unsqueeze(0).to(device);
      features[text] = encoder.forward(run, input)[0];
    }
    ++done;
    if (hooks.on_progress) hooks.on_progress(Stage::encode, done, static_cast<int64_t>(texts.size()));
  }
  return features;
}

/// Latents [count, C, T, h, w] of clips first .. first + count - 1.
Tensor Pipeline::State::denoise(const Plan& plan, const Hooks& hooks, int64_t first, int64_t count,
                                const std::map<std::string, Tensor>& features, int64_t& calls) {
  const auto height = static_cast<double>(plan.height), width = static_cast<double>(plan.width);
  const Scheduler& scheduler = *plan.scheduler;
  TextFeatures cond, uncond;
  // A generator for each clip, so that none depends on its neighbours.
  std::vector<at::Generator> generators;
  for (int64_t i = first; i < first + count; ++i) {
    cond.push_back(features.at(plan.texts[i]));
    if (plan.negative_text && plan.is_guided()) uncond.push_back(features.at(*plan.negative_text));
    generators.push_back(cpu_generator(plan.seed + static_cast<uint64_t>(i)));
  }
  const auto [t, h, w] = vae.latent_size({plan.num_frames, plan.height, plan.width});
  const std::vector<int64_t> shape{vae.latent_channels(), t, h, w};
  const auto noise = [&]() -> Tensor {
    std::vector<Tensor> draws;
    for (at::Generator& generator : generators)
      draws.push_back(randn(shape, generator, dtype == at::kDouble ? at::kDouble : at::kFloat, device));
    return at::stack(draws);
  };
  Run run;
  run.weights = &loaded(transformer_part, hooks);
  run.cancel = hooks.cancel;
  // The reference holds these numbers in the pipeline's dtype; the model was used so.
  STDiT3Denoiser denoiser(
      transformer, run, std::move(cond), std::move(uncond),
      {.height = rounded(height, dtype), .width = rounded(width, dtype), .fps = rounded(plan.model_fps(), dtype)});
  const int64_t clips = static_cast<int64_t>(plan.prompts.size()), groups = (clips + plan.batch - 1) / plan.batch;
  SampleOptions options{.guidance_scale = plan.guidance_scale, .edit_ratio = {}, .on_step = {}, .cancel = hooks.cancel};
  options.on_step = [&](int, int each, const Tensor&) {
    ++calls;
    if (hooks.on_progress) hooks.on_progress(Stage::denoise, calls, groups * each);
  };
  if (hooks.on_progress && calls == 0)
    hooks.on_progress(Stage::denoise, 0, groups * static_cast<int64_t>(scheduler.timesteps().size()));
  const double sigma = scheduler.initial_sigma();
  Tensor latents = sample(denoiser, scheduler, sigma == 1.0 ? noise() : noise() * sigma, options, noise);
  require_finite(latents, dtype);
  return latents;
}

void Pipeline::State::decode(const Plan& plan, const Hooks& hooks, int64_t index, Clip& clip, int64_t& frames) {
  Run run;
  run.weights = &loaded(vae_part, hooks);
  run.cancel = hooks.cancel;
  const Tensor latents = clip.latents.unsqueeze(0).to(dtype);
  const int64_t total = static_cast<int64_t>(plan.prompts.size()) * plan.num_frames;
  if (hooks.on_progress && frames == 0) hooks.on_progress(Stage::decode, 0, total);
  vae.decode_chunks(run, latents, plan.num_frames, [&](const Tensor& pixels, int64_t first) {
    require_finite(pixels, dtype);
    media::Frames made = media::to_frames(pixels[0], plan.fps);
    frames += made.frames;
    if (hooks.on_frames) {
      hooks.on_frames(index, std::move(made), first);
    } else if (clip.frames.frames == 0) {
      clip.frames = std::move(made);
      clip.frames.rgb.reserve(static_cast<size_t>(plan.num_frames * clip.frames.frame_bytes()));
    } else {
      clip.frames.rgb.insert(clip.frames.rgb.end(), made.rgb.begin(), made.rgb.end());
      clip.frames.frames += made.frames;
    }
    if (hooks.on_progress) hooks.on_progress(Stage::decode, frames, total);
  });
}

std::vector<Clip> Pipeline::generate(const Plan& plan, const Hooks& hooks) {
  const at::NoGradGuard no_grad;
  State& s = *state_;
  const auto clips = static_cast<int64_t>(plan.prompts.size());
  if (plan.batch < 1 || plan.texts.size() != plan.prompts.size() || !plan.scheduler)
    throw UsageError("the plan is not complete", "make it with Pipeline::plan");
  if (plan.one_by_one) {  // a run that was cancelled leaves the part that it was in
    s.transformer_part.weights.reset();
    s.vae_part.weights.reset();
  }
  const auto features = s.encode(plan, hooks);
  if (plan.one_by_one) s.text_part.weights.reset();

  std::vector<Clip> made(clips);
  int64_t calls = 0, frames = 0;
  for (int64_t first = 0; first < clips; first += plan.batch) {
    const int64_t count = std::min(plan.batch, clips - first);
    const Tensor latents = s.denoise(plan, hooks, first, count, features, calls);
    for (int64_t i = 0; i < count; ++i) made[first + i].latents = latents[i];
  }
  if (plan.one_by_one) s.transformer_part.weights.reset();
  for (int64_t i = 0; i < clips; ++i) {
    made[i].metadata = metadata(plan, i);
    s.decode(plan, hooks, i, made[i], frames);
  }
  if (plan.one_by_one) s.vae_part.weights.reset();
  return made;
}

}  // namespace kinora::video
