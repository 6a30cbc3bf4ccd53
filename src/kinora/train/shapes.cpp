#include "kinora/train/shapes.h"

#include <map>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/text/tokenizer_json.h"
#include "kinora/train/shapes_stages.h"

namespace kinora::train {
namespace fs = std::filesystem;
namespace {

at::ScalarType dtype_of(const std::string& name) {
  static const std::map<std::string, at::ScalarType> known{{"bfloat16", at::kBFloat16}, {"float32", at::kFloat}};
  const auto found = known.find(name);
  if (found == known.end())
    throw DataError(concat("dtype \"", name, "\" is not known"), "bfloat16 and float32 can be trained");
  return found->second;
}

void write_json(const fs::path& file, const Json& json) { write_file(file, json.dump(2) + "\n"); }

void make_folder(const fs::path& folder) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw ResourceError(concat("cannot make the folder ", folder.string(), ": ", failed.message()));
}

NamedTensors in_dtype(const NamedTensors& tensors, at::ScalarType dtype) {
  NamedTensors out;
  for (const auto& [name, tensor] : tensors) out.emplace_back(name, tensor.to(dtype));
  return out;
}

/// The autoencoder of a model folder, in place of training one.
NamedTensors autoencoder_of(const fs::path& folder, models::VideoVaeConfig& vae) {
  const fs::path config = folder / "vae/config.json";
  vae = models::VideoVaeConfig::from_json(read_json_file(config), config.string());
  NamedTensors tensors;
  const Checkpoint weights(folder / "vae");
  for (const auto& [name, tensor] : weights.tensors()) tensors.emplace_back(name, load_tensor(tensor, at::kFloat));
  return tensors;
}

/// The weights of a finished stage, or what `make` returns; `vae` is what the file says, or what `make` has made of it.
template <typename Make>
NamedTensors stage_weights(const ShapesContext& context, const std::string& stage, models::VideoVaeConfig& vae,
                           Make make) {
  const fs::path file = context.weights_file(stage);
  if (fs::exists(file)) {
    const Checkpoint done(file);
    vae = models::VideoVaeConfig::from_json(
        parse_json(done.files().front()->metadata().at("config"), {}, file.string()), file.string());
    NamedTensors tensors;
    for (const auto& [name, tensor] : done.tensors()) tensors.emplace_back(name, load_tensor(tensor));
    return tensors;
  }
  NamedTensors tensors = make();
  save_tensors(file, tensors, {{"config", vae.to_json().dump()}});
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

StageHooks ShapesContext::hooks(const std::string& stage) const {
  return {.folder = options.folder / stage, .progress = options.progress, .cancel = options.cancel};
}

ShapesConfig ShapesConfig::from_json(const Json& json, const std::string& what) {
  const JsonObject root(json, what);
  ShapesConfig c;
  c.world = world::world_config(root.require_object("world").json());
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
  c.defaults = root.require_object("defaults").json();

  const JsonObject stages = root.require_object("stages");
  const JsonObject spatial = stages.require_object("spatial");
  c.spatial = StageOptions::from_json(spatial, "spatial");
  c.crops_side = spatial.int_or("crops_side", c.crops_side, 1);
  c.crops_per_clip = spatial.int_or("crops_per_clip", c.crops_per_clip, 1);
  c.picture_loss = {.l1 = spatial.number_or("l1", 1.0),
                    .l2 = spatial.number_or("l2", 1.0),
                    .gradient = spatial.number_or("gradient", 0.5),
                    .foreground = spatial.number_or("foreground", 4.0),
                    .kl = spatial.number_or("kl", 1e-3)};
  const JsonObject temporal = stages.require_object("temporal");
  c.temporal = StageOptions::from_json(temporal, "temporal");
  c.temporal_kl = temporal.number_or("kl", c.temporal_kl);
  c.temporal_clips = temporal.int_or("clips", c.temporal_clips, 1);
  if (stages.has("finetune")) {
    const JsonObject finetune = stages.require_object("finetune");
    c.finetune = StageOptions::from_json(finetune, "finetune");
    finetune.refuse_unknown();
  }
  c.gate = stages.number_or("gate", c.gate);
  c.gate_clips = stages.int_or("gate_clips", c.gate_clips, 1);
  const JsonObject denoiser = stages.require_object("denoiser");
  c.denoiser = StageOptions::from_json(denoiser, "denoiser");
  c.latents = denoiser.int_or("clips", c.latents, 1);
  c.picture_steps = denoiser.int_or("picture_steps", c.picture_steps, 0);
  c.times = {.mean = denoiser.number_or("time_mean", c.times.mean), .std = denoiser.number_or("time_std", c.times.std)};
  c.text_lr_factor = denoiser.number_or("text_lr_factor", c.text_lr_factor);
  for (const auto* part : {&spatial, &temporal, &denoiser, &stages, &root}) part->refuse_unknown();
  return c;
}

void export_shapes(const ShapesConfig& config, const fs::path& folder, const models::VideoVaeConfig& vae_config,
                   const NamedTensors& vae, const NamedTensors& text_encoder, const NamedTensors& transformer) {
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
  write_json(folder / "scheduler/scheduler_config.json",
             {{"_class_name", "RFLOW"}, {"num_train_timesteps", 1000}, {"use_timestep_transform", false}});
  write_json(folder / "world.json", world::to_json(config.world));
  write_json(folder / "model_index.json", {{"_class_name", "OpenSoraPipeline"},
                                           {"transformer", {"kinora", "STDiT3"}},
                                           {"vae", {"kinora", "VideoAutoencoderPipeline"}},
                                           {"text_encoder", {"transformers", "T5EncoderModel"}},
                                           {"tokenizer", {"transformers", "T5TokenizerFast"}},
                                           {"scheduler", {"kinora", "RFLOW"}},
                                           {"defaults", config.defaults}});
}

void train_shapes(const ShapesConfig& config, const ShapesOptions& options) {
  make_folder(options.folder);
  const ShapesContext context{config, options};
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
