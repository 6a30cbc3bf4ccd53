// Runners of the autoencoders: diffusers' AutoencoderKL, and Open-Sora's video autoencoder with its parts.
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

using models::AutoencoderKl;
using models::AutoencoderKlConfig;
using models::DiagonalGaussian;
using models::KlParts;
using models::TemporalVae;
using models::TemporalVaeConfig;
using models::VideoNoise;
using models::VideoVae;
using models::VideoVaeConfig;

/// The config without the case maker's remark.
Json plain_config(const Case& c) {
  Json config = c.config;
  config.erase("note");
  config.erase("dtype");
  return config;
}

/// A model made in a scope of its own, its weights by the recipe, and a run over them.
template <typename Model>
struct Loaded {
  template <typename... Args>
  explicit Loaded(const Case& c, const Args&... args) : model(Scope(params), args...), weights(c.weights(params)) {
    run.weights = &weights;
  }
  Params params;
  Model model;
  ResidentWeights weights;
  Run run;
};

KlParts parts_of(const Case& c) {
  KlParts parts;
  if (c.call.contains("enable")) {
    parts.tiling = c.call.at("enable").contains("enable_tiling");
    parts.micro_batch = c.call.at("enable").contains("enable_slicing") ? 1 : 0;
  }
  if (c.call.contains("attrs")) {
    const JsonObject attrs(c.call.at("attrs"), "attrs");
    parts.tiling = attrs.bool_or("use_tiling", parts.tiling);
    parts.micro_batch = attrs.bool_or("use_slicing", parts.micro_batch == 1) ? 1 : 0;
    parts.tile_sample_size = attrs.int_or("tile_sample_min_size", 0);
    parts.tile_latent_size = attrs.int_or("tile_latent_min_size", 0);
    parts.tile_overlap = attrs.number_or("tile_overlap_factor", parts.tile_overlap);
    attrs.refuse_unknown();
  }
  return parts;
}

struct LoadedKl : Loaded<AutoencoderKl> {
  explicit LoadedKl(const Case& c) : Loaded(c, AutoencoderKlConfig::from_json(plain_config(c), "config")) {}
};

Outputs kl_encode(const Case& c) {
  LoadedKl vae(c);
  const DiagonalGaussian posterior = vae.model.encode(vae.run, c.input("x"), parts_of(c));
  return {.tensors = {{"mean", posterior.mean()}, {"logvar", posterior.logvar()}}, .values = {}, .results = {}};
}

Outputs kl_decode(const Case& c) {
  LoadedKl vae(c);
  return {.tensors = {{"sample", vae.model.decode(vae.run, c.input("z"), parts_of(c))}}, .values = {}, .results = {}};
}

Outputs kl_forward(const Case& c) {
  LoadedKl vae(c);
  const Tensor z = vae.model.encode(vae.run, c.input("x"), parts_of(c)).mode();
  return {.tensors = {{"sample", vae.model.decode(vae.run, z, parts_of(c))}}, .values = {}, .results = {}};
}

Outputs kl_both(const Case& c) {
  LoadedKl vae(c);
  return {.tensors = {{"moments", vae.model.encode(vae.run, c.input("x")).moments},
                      {"decoded", vae.model.decode(vae.run, c.input("z"))}},
          .values = {},
          .results = {}};
}

Outputs causal_conv(const Case& c) {
  const JsonObject config(c.config, "config");
  const std::vector<int64_t> stride = config.ints_or("strides", {1, 1, 1});
  Loaded<models::open_sora::CausalConv3d> conv(c, config.require_int("chan_in"), config.require_int("chan_out"),
                                               config.require_ints("kernel_size"), c.has_weight("conv.bias"), stride);
  return {.tensors = {{"y", conv.model(conv.run, c.input("x"))}}, .values = {}, .results = {}};
}

Outputs res_block(const Case& c) {
  const JsonObject config(c.config, "config");
  Loaded<models::open_sora::ResBlock> block(c, config.require_int("in_channels"), config.require_int("filters"),
                                            config.require_int("num_groups"));
  return {.tensors = {{"y", block.model(block.run, c.input("x"))}}, .values = {}, .results = {}};
}

Outputs temporal(const Case& c) {
  Loaded<TemporalVae> vae(c, TemporalVaeConfig::from_json(plain_config(c), "config"));
  const Tensor x = c.input("x");
  const auto frames = c.value("num_frames").get<int64_t>();
  Outputs out;
  out.tensors["moments"] = vae.model.encode(vae.run, x).moments;
  out.tensors["decoded"] = vae.model.decode(vae.run, c.input("z"), frames);
  out.values["latent_size"] = {vae.model.latent_frames(x.size(2)), x.size(3), x.size(4)};
  return out;
}

Outputs video_sizes(const Case& c) {
  const VideoVae vae(VideoVaeConfig::from_json(plain_config(c), "config"));
  Outputs out;
  for (const Json& size : c.value("sizes"))
    out.values["latent_sizes"].push_back(vae.latent_size(size.get<std::array<int64_t, 3>>()));
  return out;
}

Outputs video_both(const Case& c) {
  const VideoVae vae(VideoVaeConfig::from_json(plain_config(c), "config"));
  ResidentWeights weights = c.weights(vae.params());
  Run run;
  run.weights = &weights;
  const Tensor x = c.input("x");
  const VideoNoise noise{.spatial = c.input("noise_2d"), .temporal = c.input("noise_t")};
  Outputs out;
  out.values["latent_size"] = vae.latent_size({x.size(2), x.size(3), x.size(4)});
  out.tensors["latent"] = vae.encode(run, x, &noise);
  out.tensors["decoded"] = vae.decode(run, c.input("z"), c.value("num_frames").get<int64_t>());
  return out;
}

}  // namespace

void add_vae(Registry& registry) {
  registry.add("AutoencoderKL", "encode", kl_encode);
  registry.add("AutoencoderKL", "decode", kl_decode);
  registry.add("AutoencoderKL", "forward", kl_forward);
  registry.add("AutoencoderKL", "encode+decode", kl_both);
  registry.add("CausalConv3d", "forward", causal_conv);
  registry.add("ResBlock", "forward", res_block);
  registry.add("VAE_Temporal", "encode+decode", temporal);
  registry.add("VideoAutoencoderPipeline", "get_latent_size", video_sizes);
  registry.add("VideoAutoencoderPipeline", "encode+decode", video_both);
}

}  // namespace kinora::parity
