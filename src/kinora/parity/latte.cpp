// Runners of Latte's transformer, in the classes of diffusers and of VideoSys, and of its parts.
#include "kinora/base/error.h"
#include "kinora/models/latte/transformer.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

namespace latte = models::latte;

Outputs one(const char* name, const Tensor& tensor) {
  return {.tensors = {{name, tensor}}, .values = {}, .results = {}};
}

Outputs transformer(const Case& c) {
  const bool is_videosys = c.has_input("x");
  Json settings = c.config;
  settings.erase("note");
  const latte::LatteTransformer model(latte::LatteConfig::from_json(settings, c.cls));
  auto weights = c.weights(model.params());
  latte::LatteTransformer::Inputs in{.hidden_states = c.input(is_videosys ? "x" : "hidden_states"),
                                     .timestep = c.input("timestep"),
                                     .encoder_hidden_states = c.input(is_videosys ? "text" : "encoder_hidden_states")};
  if (c.has_input("encoder_attention_mask")) in.encoder_attention_mask = c.input("encoder_attention_mask");
  in.enable_temporal_attentions = c.args().value("enable_temporal_attentions", true);
  return one(is_videosys ? "y" : "sample", model.forward({.weights = &weights}, in));
}

latte::LatteConfig block_config(const JsonObject& o, const char* norm_type) {
  if (o.string_or("norm_type", norm_type) != "ada_norm_single")
    throw NotInThisBuild("another norm_type than ada_norm_single");
  latte::LatteConfig config;
  config.num_attention_heads = o.require_int("num_attention_heads");
  config.attention_head_dim = o.require_int("attention_head_dim");
  config.attention_bias = o.bool_or("attention_bias", config.attention_bias);
  config.norm_elementwise_affine = o.bool_or("norm_elementwise_affine", config.norm_elementwise_affine);
  config.norm_eps = o.number_or("norm_eps", config.norm_eps);
  config.feed_forward = models::feed_forward_form(o.string_or("activation_fn", "geglu"), o.what());
  if (o.int_or("cross_attention_dim", config.width()) != config.width() || o.require_int("dim") != config.width())
    throw NotInThisBuild("parts that differ in width");
  return config;
}

/// A block with text is a spatial one; each sample is a frame of its own, or one row of all frames.
Outputs block(const Case& c) {
  const JsonObject o(c.config, c.cls);
  const bool is_spatial = o.has("cross_attention_dim");
  Params params;
  const latte::Block block(Scope(params), block_config(o, "layer_norm"), is_spatial ? Axis::rows : Axis::frames, 0);
  auto weights = c.weights(params);
  latte::Conditioning conditioning{
      .extent = {}, .time = c.input("timestep").unflatten(1, {6, -1}), .text = {}, .text_bias = {}};
  if (is_spatial) conditioning.text = c.input("encoder_hidden_states");
  if (c.has_input("encoder_attention_mask")) conditioning.text_bias = c.input("encoder_attention_mask").unsqueeze(1);
  const int64_t set = is_spatial ? 1 : 2;
  const Tensor x = c.input("hidden_states").unsqueeze(set);
  return one("out", block({.weights = &weights}, x, conditioning).squeeze(set));
}

/// VideoSys' pair of blocks; every frame has a text of its own.
Outputs pair_of_blocks(const Case& c) {
  Json settings = c.config;
  settings["attention_bias"] = true;
  settings["norm_elementwise_affine"] = false;
  settings["activation_fn"] = "gelu-approximate";
  const auto config = block_config(JsonObject(settings, c.cls), "ada_norm_single");
  Params params;
  const latte::Block spatial(Scope(params) / "spatial", config, Axis::rows, 0);
  const latte::Block temporal(Scope(params) / "temporal", config, Axis::frames, 1);
  auto weights = c.weights(params);
  const Run run{.weights = &weights};
  const latte::Conditioning conditioning{
      .extent = {}, .time = c.input("t").unflatten(1, {6, -1}), .text = c.input("text"), .text_bias = {}};
  const Tensor after_spatial = spatial(run, c.input("x").unsqueeze(1), conditioning).squeeze(1);
  const Tensor after_temporal = temporal(run, after_spatial.unsqueeze(0), conditioning).squeeze(0);
  return {.tensors = {{"after_spatial", after_spatial}, {"after_temporal", after_temporal.transpose(0, 1)}},
          .values = {},
          .results = {}};
}

Outputs patch_embed(const Case& c) {
  const JsonObject o(c.config, c.cls);
  if (o.string_or("pos_embed_type", "sincos") != "sincos" || o.bool_or("layer_norm", false) ||
      !o.bool_or("bias", true) || o.has("pos_embed_max_size")) {
    throw NotInThisBuild("other options than Latte's");
  }
  const int64_t patch = o.int_or("patch_size", 16, 1, 64);
  Params params;
  const latte::PatchEmbed embed(Scope(params), {.in_channels = o.int_or("in_channels", 3),
                                                .width = o.int_or("embed_dim", 768),
                                                .patch_size = patch,
                                                .base_size = o.int_or("height", 224) / patch,
                                                .interpolation_scale = o.int_or("interpolation_scale", 1)});
  auto weights = c.weights(params);
  return one("out", embed({.weights = &weights}, c.input("latent").unsqueeze(2)).squeeze(1));
}

Outputs adaln_single(const Case& c) {
  const JsonObject o(c.config, c.cls);
  if (o.bool_or("use_additional_conditions", false)) throw NotInThisBuild("resolution and aspect ratio");
  Params params;
  const latte::AdaLayerNormSingle layer(Scope(params), o.require_int("embedding_dim"));
  auto weights = c.weights(params);
  const auto time = layer({.weights = &weights}, c.input("timestep"), c.dtype());
  return {.tensors = {{"out0", time.six.flatten(1)}, {"out1", time.embed}}, .values = {}, .results = {}};
}

Outputs caption_projection(const Case& c) {
  const JsonObject o(c.config, c.cls);
  if (o.string_or("act_fn", "gelu_tanh") != "gelu_tanh") throw NotInThisBuild("another act_fn than gelu_tanh");
  const int64_t width = o.require_int("hidden_size");
  Params params;
  const Mlp layer(Scope(params) / "linear_1", Scope(params) / "linear_2", o.require_int("in_features"), width,
                  o.int_or("out_features", width), ops::Activation::gelu_tanh);
  auto weights = c.weights(params);
  return one("out", layer({.weights = &weights}, c.input("caption")));
}

}  // namespace

void add_latte(Registry& registry) {
  registry.add("LatteTransformer3DModel", "forward", transformer);
  registry.add("LatteT2V", "forward", transformer);
  registry.add("LatteBlocks", "forward", pair_of_blocks);
  registry.add("BasicTransformerBlock", "forward", block);
  registry.add("PatchEmbed", "forward", patch_embed);
  registry.add("AdaLayerNormSingle", "forward", adaln_single);
  registry.add("PixArtAlphaTextProjection", "forward", caption_projection);
}

}  // namespace kinora::parity
