#include "kinora/train/shapes.h"

#include <algorithm>
#include <map>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/progress.h"
#include "kinora/base/utf8.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/nn/load.h"
#include "kinora/text/tokenizer_json.h"
#include "kinora/train/run_folder.h"
#include "kinora/train/shapes_data.h"
#include "kinora/train/shapes_stages.h"
#include "kinora/train/summed.h"

namespace kinora::train {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kEncodedAtOnce = 8;  // clips
constexpr size_t kMostPathBytes = 4096;

at::ScalarType dtype_of(const std::string& name) {
  static const std::map<std::string, at::ScalarType> known{{"bfloat16", at::kBFloat16}, {"float32", at::kFloat}};
  const auto found = known.find(name);
  if (found == known.end())
    throw DataError(concat("dtype \"", name, "\" is not known"), "bfloat16 and float32 can be trained");
  return found->second;
}

void write_json(const fs::path& file, const Json& json) { write_file(file, json.dump(2) + "\n"); }

/// The config's mistake, where the world takes it for its caller's.
world::WorldConfig world_of(const JsonObject& json) {
  try {
    return world::world_config(json.json());
  } catch (const UsageError& error) {
    throw DataError(concat(json.what(), ": ", error.what()), error.hint());
  }
}

/// What the autoencoder would find out only in the middle of a stage.
void check_sizes(const ShapesConfig& config, const std::string& what) {
  const int64_t block = config.vae.spatial.downscale();
  for (const auto& [name, size] : {std::pair{"world.height", config.world.height},
                                   {"world.width", config.world.width},
                                   {"stages.spatial.crops_side", config.crops_side}}) {
    if (size % block == 0) continue;
    throw DataError(concat(what, ": \"", name, "\" is ", size),
                    concat("the autoencoder takes multiples of ", block, " pixels"));
  }
  if (config.given_every > 0 && config.transformer.patch_size[0] != 1)
    throw DataError(concat(what, ": \"given_every\" is for transformers that take each latent frame alone"),
                    "set the first number of transformer.patch_size to 1, or leave given_every out");
  if (config.vae.spatial.in_channels != 3 || config.vae.spatial.out_channels != 3)
    throw DataError(concat(what, ": vae_2d must take and give 3 channels: red, green and blue"));
}

/// Throws DataError unless the two differ in nothing but what training finds out.
void check_same(const models::VideoVaeConfig& found, models::VideoVaeConfig wanted, const std::string& what) {
  wanted.spatial_scaling_factor = found.spatial_scaling_factor;
  wanted.scale = found.scale, wanted.shift = found.shift;
  if (const auto key = first_difference(found.to_json(), wanted.to_json()))
    throw DataError(concat(what, " is of another autoencoder than the config's: \"", *key, "\" differs"));
}

/// By name, so that a file's bytes do not tell whether a stage was trained or read back.
NamedTensors in_dtype(const NamedTensors& tensors, at::ScalarType dtype) {
  NamedTensors out;
  for (const auto& [name, tensor] : std::map<std::string, Tensor>(tensors.begin(), tensors.end()))
    out.emplace_back(name, tensor.to(dtype));
  return out;
}

/// The autoencoder of a model folder, in place of training one. Sets what training would find out in `vae`.
NamedTensors autoencoder_of(const fs::path& folder, models::VideoVaeConfig& vae) {
  const fs::path config = folder / "vae/config.json";
  const auto found = models::VideoVaeConfig::from_json(read_json_file(config), config.string());
  check_same(found, vae, config.string());
  vae = found;
  NamedTensors tensors;
  const Checkpoint weights(folder / "vae");
  for (const auto& [name, tensor] : weights.tensors()) tensors.emplace_back(name, load_tensor(tensor, at::kFloat));
  return tensors;
}

/// Throws unless every part of the model to go on from is there and of this config.
void check_from(const ShapesConfig& config, const fs::path& from) {
  models::VideoVaeConfig vae = config.vae;
  const NamedTensors autoencoder = autoencoder_of(from, vae);
  weights_from(models::VideoVae(vae).params(), autoencoder, at::kFloat, at::kCPU);
  const text::T5Encoder encoder(text::T5Config::from_json(config.text_encoder, "text_encoder"));
  load_weights(encoder.params(), Checkpoint(from / "text_encoder"));
  load_weights(models::STDiT3(config.transformer).params(), Checkpoint(from / "transformer"));
}

/// The rule of the header.
bool may_change(const ShapesContext& context, std::string_view key) {
  const bool has_temporal = fs::exists(context.weights_file("temporal"));
  const bool has_spatial = has_temporal || fs::exists(context.weights_file("spatial"));
  for (const auto& [part, is_made] : {std::pair<std::string_view, bool>{"stages.spatial.", has_spatial},
                                      {"stages.temporal.", has_temporal},
                                      {"stages.finetune.", has_temporal},
                                      {"stages.denoiser.", false},
                                      {"stages.gate", false},
                                      {"shift", false},
                                      {"defaults.", false}}) {
    if (key.starts_with(part)) return !is_made;
  }
  return false;
}

/// The weights of a finished stage, or, when they are missing or damaged, what `make` returns; `vae` is what the file says, or what `make` has made of it.
template <typename Make>
NamedTensors stage_weights(const ShapesContext& context, const std::string& stage, models::VideoVaeConfig& vae,
                           Make make) {
  const fs::path file = context.weights_file(stage);
  if (auto done = read_summed(file)) {
    const auto config = done->notes.find("config");
    if (config == done->notes.end())
      throw DataError(concat(file.string(), " is not of this training"), "remove it, or train into another folder");
    const auto found = models::VideoVaeConfig::from_json(parse_json(config->second, {}, file.string()), file.string());
    check_same(found, vae, file.string());
    vae = found;
    return std::move(done->tensors);
  }
  NamedTensors tensors = make();
  save_summed(file, tensors, {{"config", vae.to_json().dump()}});
  return tensors;
}

}  // namespace

ResidentWeights weights_from(const Params& params, const NamedTensors& tensors, at::ScalarType dtype,
                             at::Device device) {
  std::map<std::string, Tensor> by_name(tensors.begin(), tensors.end());
  std::vector<Tensor> out;
  for (const auto& p : params) {
    const auto found = by_name.find(p.name);
    if (found == by_name.end() || found->second.sizes() != at::IntArrayRef(p.shape)) {
      throw DataError(concat("the earlier stage has no tensor ", p.name, " of this shape"),
                      "the config changed: train into another folder");
    }
    out.push_back(found->second.to(device, dtype));
  }
  return ResidentWeights(std::move(out));
}

Tensor encoded_clips(const ShapesContext& context, const fs::path& file, const std::string& label,
                     const models::VideoVaeConfig& vae, const NamedTensors& weights, uint64_t seed, int64_t count,
                     const std::function<Tensor(const Tensor& clips)>& encode) {
  const ShapesOptions& options = context.options;
  std::optional<Progress> progress;
  if (options.progress) {
    progress.emplace(*options.progress,
                     ProgressOptions{.label = label, .total = count, .unit = "clip", .is_terminal = is_terminal(2)});
  }
  const Json key = {
      {"vae", vae.to_json()}, {"weights", sum_of(weights)}, {"dtype", c10::toString(context.config.dtype)}};
  return cached_latents(
      file, key.dump(), context.config.world, seed, count, kEncodedAtOnce,
      [&](const Tensor& clips) {
        if (options.cancel.stop_requested()) throw CancelledError();
        return encode(clips);
      },
      [&](int64_t done) {
        if (progress) progress->update(done);
      });
}

StageHooks ShapesContext::hooks(const std::string& stage) const {
  return {.folder = options.folder / stage, .progress = options.progress, .cancel = options.cancel};
}

ShapesConfig ShapesConfig::from_json(const Json& json, const std::string& what) {
  constexpr int64_t kMostClips = 1 << 20;
  constexpr double kMostWeight = 1e6;  // of a part of a loss
  const JsonObject root(json, what);
  ShapesConfig c;
  c.json = json;
  c.world = world_of(root.require_object("world"));
  c.vae = models::VideoVaeConfig::from_json(root.require_object("vae").json(), what + " vae");
  Json transformer = root.require_object("transformer").json();
  c.text_encoder = root.require_object("text_encoder").json();
  const auto tokenizer = text::parse_tokenizer_json(world::tokenizer_json(c.world), "tokenizer.json");
  c.text_encoder["vocab_size"] = tokenizer.vocab_size();
  transformer["in_channels"] = c.vae.temporal.embed_dim;
  transformer["caption_channels"] = text::T5Config::from_json(c.text_encoder, what + " text_encoder").d_model;
  c.transformer = models::STDiT3Config::from_json(transformer, what + " transformer");
  c.dtype = dtype_of(root.string_or("dtype", "bfloat16"));
  c.seed = root.int_or("seed", 0, 0);
  c.shift = number_within(root, "shift", c.shift, 1, 100);
  c.defaults = root.require_object("defaults").json();

  const JsonObject stages = root.require_object("stages");
  const JsonObject spatial = stages.require_object("spatial");
  c.spatial = StageOptions::from_json(spatial, "spatial", c.seed);
  const int64_t least_side = std::min(c.world.height, c.world.width);
  c.crops_side = spatial.int_or("crops_side", std::min(c.crops_side, least_side), 1, least_side);
  c.crops_per_clip = spatial.int_or("crops_per_clip", c.crops_per_clip, 1, kMostClips);
  const PictureLoss usual;
  c.picture_loss = {.l1 = number_within(spatial, "l1", usual.l1, 0, kMostWeight),
                    .l2 = number_within(spatial, "l2", usual.l2, 0, kMostWeight),
                    .gradient = number_within(spatial, "gradient", usual.gradient, 0, kMostWeight),
                    .foreground = number_within(spatial, "foreground", usual.foreground, 0, kMostWeight),
                    .kl = number_within(spatial, "kl", usual.kl, 0, kMostWeight)};
  const JsonObject temporal = stages.require_object("temporal");
  c.temporal = StageOptions::from_json(temporal, "temporal", c.seed);
  c.temporal_kl = number_within(temporal, "kl", c.temporal_kl, 0, kMostWeight);
  c.temporal_clips = temporal.int_or("clips", c.temporal_clips, 1, kMostClips);
  if (stages.has("finetune")) {
    const JsonObject finetune = stages.require_object("finetune");
    c.finetune = StageOptions::from_json(finetune, "finetune", c.seed);
    finetune.refuse_unknown();
  }
  c.gate = number_within(stages, "gate", c.gate, 0, 1);
  c.gate_clips = stages.int_or("gate_clips", c.gate_clips, 1, kMostClips);
  const JsonObject denoiser = stages.require_object("denoiser");
  c.denoiser = StageOptions::from_json(denoiser, "denoiser", c.seed);
  c.latents = denoiser.int_or("clips", c.latents, 1, kMostClips);
  c.picture_steps = denoiser.int_or("picture_steps", c.picture_steps, 0);
  c.picture_every = denoiser.int_or("picture_every", c.picture_every, 0);
  c.given_every = denoiser.int_or("given_every", c.given_every, 0);
  if (denoiser.has("pairs")) c.pairs = number_within(denoiser, "pairs", 0, 0, 1);
  if (c.pairs && c.world.pairs <= 0)
    throw DataError(concat(denoiser.what(), ": a share of \"pairs\", but the world draws none"),
                    "set the world's \"pairs\", too");
  c.picture_batch = denoiser.int_or("picture_batch", c.denoiser.batch, 1, kMostClips);
  if (c.picture_batch % c.denoiser.parts != 0)
    throw DataError(concat(denoiser.what(), ": a \"picture_batch\" of ", c.picture_batch, " cannot be split into ",
                           c.denoiser.parts, " equal parts"));
  c.times = {.mean = number_within(denoiser, "time_mean", c.times.mean, -10, 10),
             .std = number_within(denoiser, "time_std", c.times.std, 0, 10)};
  c.text_lr_factor = number_within(denoiser, "text_lr_factor", c.text_lr_factor, 0, 100);
  for (const auto* part : {&spatial, &temporal, &denoiser, &stages, &root}) part->refuse_unknown();
  check_sizes(c, what);
  return c;
}

void export_shapes(const ShapesConfig& config, const fs::path& target, const models::VideoVaeConfig& vae_config,
                   const NamedTensors& vae, const NamedTensors& text_encoder, const NamedTensors& transformer) {
  const fs::path folder = target.string() + ".tmp";
  std::error_code ignored;
  fs::remove_all(folder, ignored);  // of a run that was killed here
  for (const char* part : {"transformer", "vae", "text_encoder", "tokenizer", "scheduler"}) make_folder(folder / part);
  const auto save = [&](const char* file, const NamedTensors& tensors) {
    save_tensors(folder / file, in_dtype(tensors, at::kBFloat16));
  };
  save("transformer/diffusion_pytorch_model.safetensors", transformer);
  save("vae/diffusion_pytorch_model.safetensors", vae);
  save("text_encoder/model.safetensors", text_encoder);
  write_json(folder / "transformer/config.json", config.transformer.to_json());
  write_json(folder / "vae/config.json", vae_config.to_json());
  write_json(folder / "text_encoder/config.json", config.text_encoder);
  write_file(folder / "tokenizer/tokenizer.json", world::tokenizer_json(config.world));
  Json scheduler{{"_class_name", "RFLOW"}, {"num_train_timesteps", 1000}, {"use_timestep_transform", false}};
  if (config.shift != 1) scheduler["shift"] = config.shift;
  write_json(folder / "scheduler/scheduler_config.json", scheduler);
  write_json(folder / "world.json", world::to_json(config.world));
  write_json(folder / "model_index.json", {{"_class_name", "OpenSoraPipeline"},
                                           {"transformer", {"kinora", "STDiT3"}},
                                           {"vae", {"kinora", "VideoAutoencoderPipeline"}},
                                           {"text_encoder", {"transformers", "T5EncoderModel"}},
                                           {"tokenizer", {"transformers", "T5TokenizerFast"}},
                                           {"scheduler", {"kinora", "RFLOW"}},
                                           {"defaults", config.defaults}});
  replace_folder(folder, target);
}

void train_shapes(const ShapesConfig& config, const ShapesOptions& options) {
  Json kept = config.json;
  if (!options.from.empty()) {
    check_from(config, options.from);
    kept["_from"] = printable(fs::canonical(options.from).string(), kMostPathBytes);
  }
  make_folder(options.folder);
  const FolderLock lock(options.folder);
  const ShapesContext context{config, options};
  keep_config(options.folder, kept, [&](std::string_view key) { return may_change(context, key); });
  remove_temporaries(options.folder);
  for (const char* stage : {"spatial", "temporal", "finetune", "denoiser"}) remove_temporaries(options.folder / stage);
  models::VideoVaeConfig vae = config.vae;
  for (const char* stage : {"spatial", "temporal"}) make_folder(options.folder / stage);
  const NamedTensors whole = stage_weights(context, "temporal", vae, [&] {
    if (!options.from.empty()) return autoencoder_of(options.from, vae);
    const NamedTensors spatial = stage_weights(context, "spatial", vae, [&] { return train_spatial(context, vae); });
    return train_temporal(context, vae, spatial);
  });
  const auto trained = train_denoiser(context, vae, whole);
  export_shapes(config, options.folder / "model", vae, whole, trained.text_encoder, trained.transformer);
  log_info(concat("the model is in ", (options.folder / "model").string()));
}

}  // namespace kinora::train
