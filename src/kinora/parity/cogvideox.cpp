// Runners of CogVideoX's transformer with its parts, and of diffusers' embeddings and tables.
#include "kinora/base/error.h"
#include "kinora/models/cogvideox/transformer.h"
#include "kinora/models/common/embeddings.h"
#include "kinora/parity/rope.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {

namespace cog = models::cogvideox;
using models::RotaryTable;

/// get_3d_rotary_pos_embed's arguments: crops_coords [[top, left], [bottom, right]] with the linear grid, none with
/// "slice".
RotaryTable rotary_of(const Json& json) {
  const JsonObject args(json, "get_3d_rotary_pos_embed");
  const auto grid = args.require_ints("grid_size", 1, 4096);
  const int64_t frames = args.require_int("temporal_size", 1, 4096), dim = args.require_int("embed_dim", 16, 4096);
  const auto count = [](int64_t n) { return at::arange(n, at::kFloat); };
  if (args.string_or("grid_type", "linspace") == "slice") {
    return models::rotary_3d(count(frames), count(grid.at(0)), count(grid.at(1)), dim);
  }
  const auto crops = json.at("crops_coords").get<std::vector<std::vector<double>>>();
  return models::rotary_3d(count(frames), models::grid_positions(crops.at(0).at(0), crops.at(1).at(0), grid.at(0)),
                           models::grid_positions(crops.at(0).at(1), crops.at(1).at(1), grid.at(1)), dim);
}

namespace {

/// VideoSys' cases give no table: [frames, h, w] of the patches, uncropped.
RotaryTable uncropped_rotary(int64_t head_dim, int64_t frames, int64_t h, int64_t w) {
  const auto size = [](int64_t n) { return static_cast<double>(n); };
  return models::rotary_3d(at::arange(frames, at::kFloat), models::grid_positions(0, size(h), h),
                           models::grid_positions(0, size(w), w), head_dim);
}

/// The reference's form: [T h w, D], each value twice.
Tensor doubled(const Tensor& table) { return table.flatten(0, 1).repeat_interleave(2, 1); }

Outputs transformer(const Case& c) {
  const bool is_videosys = c.has_input("x");
  const auto config = cog::CogVideoXConfig::from_json(c.config, c.cls);
  const cog::CogVideoXTransformer model(config);
  auto weights = c.weights(model.params());
  cog::CogVideoXTransformer::Inputs in{.hidden_states = c.input(is_videosys ? "x" : "hidden_states"),
                                       .encoder_hidden_states = c.input(is_videosys ? "text" : "encoder_hidden_states"),
                                       .timestep = c.input("timestep")};
  if (c.has_input("ofs")) in.ofs = c.input("ofs");
  if (c.call.contains("rope")) {
    in.rotary = rotary_of(c.call.at("rope").at("args"));
  } else if (is_videosys && config.use_rotary_positional_embeddings) {
    in.rotary = uncropped_rotary(config.attention_head_dim, in.hidden_states.size(1), in.hidden_states.size(3) / 2,
                                 in.hidden_states.size(4) / 2);
  }
  return {.tensors = {{is_videosys ? "y" : "sample", model.forward({.weights = &weights}, in)}},
          .values = {},
          .results = {}};
}

cog::CogVideoXConfig block_config(const Case& c) {
  const JsonObject o(c.config, c.cls);
  cog::CogVideoXConfig config;
  config.num_attention_heads = o.require_int("num_attention_heads");
  config.attention_head_dim = o.require_int("attention_head_dim");
  config.time_embed_dim = o.require_int("time_embed_dim");
  config.attention_bias = o.bool_or("attention_bias", false);
  config.norm_eps = o.number_or("norm_eps", 1e-5);
  config.feed_forward = models::feed_forward_form(o.string_or("activation_fn", "gelu-approximate"), c.cls);
  return config;
}

Outputs block(const Case& c) {
  const bool is_videosys = c.has_input("x");
  const auto config = block_config(c);
  Params params;
  const cog::Block block(Scope(params), config, 0);
  auto weights = c.weights(params);
  Outputs out;
  cog::Conditioning conditioning{.time_embed = c.input("temb"), .rotary = {}, .extent = {}};
  if (c.call.contains("rope")) {
    conditioning.rotary = rotary_of(c.call.at("rope").at("args"));
  } else if (is_videosys && c.config.at("rope").is_array()) {
    const auto grid = c.config.at("rope").get<std::vector<int64_t>>();
    conditioning.rotary = uncropped_rotary(config.attention_head_dim, grid.at(0), grid.at(1), grid.at(2));
    out.tensors["cos"] = doubled(conditioning.rotary.cos);
    out.tensors["sin"] = doubled(conditioning.rotary.sin);
  }
  const Tensor video = c.input(is_videosys ? "x" : "hidden_states"),
               text = c.input(is_videosys ? "text" : "encoder_hidden_states");
  const int64_t frames = conditioning.rotary.cos.defined() ? conditioning.rotary.cos.size(0) : 1;
  conditioning.extent = {.frames = frames, .rows = video.size(1) / frames};
  const Streams got = block({.weights = &weights}, {video.unflatten(1, {frames, -1}), text}, conditioning);
  out.tensors[is_videosys ? "video" : "out0"] = got[0].flatten(1, 2);
  out.tensors[is_videosys ? "text" : "out1"] = got[1];
  return out;
}

Outputs layer_norm_zero(const Case& c) {
  const JsonObject o(c.config, c.cls);
  Params params;
  const cog::LayerNormZero norm(Scope(params), o.require_int("conditioning_dim"), o.require_int("embedding_dim"),
                                o.bool_or("elementwise_affine", true), o.number_or("eps", 1e-5));
  auto weights = c.weights(params);
  const Run run{.weights = &weights};
  const auto m = norm.modulation(run, c.input("temb"));
  const Streams got = norm.norm(run, {c.input("hidden_states").unsqueeze(1), c.input("encoder_hidden_states")}, m);
  return {
      .tensors = {{"out0", got[0].squeeze(1)}, {"out1", got[1]}, {"out2", m[0].gate.squeeze(1)}, {"out3", m[1].gate}},
      .values = {},
      .results = {}};
}

Outputs patch_embed(const Case& c) {
  const JsonObject o(c.config, c.cls);
  Json json = c.config;
  json["attention_head_dim"] =
      o.require_int("embed_dim", 16, 4096);  // one head as wide as the model: only the width counts here
  json["num_attention_heads"] = 1;
  json["patch_bias"] = o.bool_or("bias", true);
  json["use_learned_positional_embeddings"] = false;
  auto config = cog::CogVideoXConfig::from_json(json, c.cls);
  config.use_learned_positional_embeddings = o.bool_or("use_learned_positional_embeddings", true);
  Params params;
  const cog::PatchEmbed embed(Scope(params), config, o.bool_or("use_positional_embeddings", true));
  auto weights = c.weights(params);
  const Streams got = embed({.weights = &weights}, c.input("image_embeds"), c.input("text_embeds"));
  return {.tensors = {{"out", at::cat({got[1], got[0].flatten(1, 2)}, 1)}}, .values = {}, .results = {}};
}

Outputs timesteps(const Case& c) {
  const JsonObject o(c.config, c.cls);
  const Tensor out =
      models::timestep_frequencies(c.input("timesteps"), o.require_int("num_channels"),
                                   o.require_bool("flip_sin_to_cos"), o.require_number("downscale_freq_shift"));
  return {.tensors = {{"out", out * o.number_or("scale", 1)}}, .values = {}, .results = {}};
}

Outputs timestep_embedding(const Case& c) {
  const JsonObject o(c.config, c.cls);
  if (o.string_or("act_fn", "silu") != "silu") throw UsageError("this runner knows act_fn silu only");
  Params params;
  const models::TimestepEmbedding embedding(Scope(params), o.require_int("in_channels"),
                                            o.require_int("time_embed_dim"));
  auto weights = c.weights(params);
  return {.tensors = {{"out", embedding({.weights = &weights}, c.input("sample"))}}, .values = {}, .results = {}};
}

Outputs feed_forward(const Case& c) {
  const JsonObject o(c.config, c.cls);
  const int64_t width = o.require_int("dim");
  const int64_t inner =
      o.int_or("inner_dim", static_cast<int64_t>(static_cast<double>(width) * o.number_or("mult", 4)));
  Params params;
  const models::FeedForward layer(Scope(params), width, inner,
                                  models::feed_forward_form(o.string_or("activation_fn", "geglu"), c.cls),
                                  o.bool_or("bias", true));
  auto weights = c.weights(params);
  return {.tensors = {{"out", layer({.weights = &weights}, c.input("hidden_states"))}}, .values = {}, .results = {}};
}

Outputs sincos_3d_table(const Case& c) {
  const JsonObject args(c.call.at("args"), c.cls);
  const Json& size = args.json().at("spatial_size");  // width before height, or one number for both
  const int64_t w = size.is_array() ? size.at(0).get<int64_t>() : size.get<int64_t>();
  const int64_t h = size.is_array() ? size.at(1).get<int64_t>() : w;
  const auto table = models::sincos_3d(args.require_int("temporal_size"), h, w, args.require_int("embed_dim"),
                                       args.number_or("spatial_interpolation_scale", 1),
                                       args.number_or("temporal_interpolation_scale", 1));
  return {.tensors = {{"out", table.table()}}, .values = {}, .results = {}};
}

Outputs sincos_2d_table(const Case& c) {
  const JsonObject args(c.call.at("args"), c.cls);
  const Json& size = args.json().at("grid_size");
  const int64_t h = size.is_array() ? size.at(0).get<int64_t>() : size.get<int64_t>();
  const int64_t w = size.is_array() ? size.at(1).get<int64_t>() : h;
  return {.tensors = {{"out", models::sincos_2d_scaled(h, w, args.require_int("embed_dim"),
                                                       args.number_or("interpolation_scale", 1),
                                                       args.number_or("base_size", 16))}},
          .values = {},
          .results = {}};
}

Outputs rotary_3d_table(const Case& c) {
  Json args = c.call.at("args");
  for (const char* name : {"crops_coords", "grid_size"}) {
    if (c.has_input(name)) args[name] = c.value(name);
  }
  const RotaryTable table = rotary_of(args);
  return {.tensors = {{"out0", doubled(table.cos)}, {"out1", doubled(table.sin)}}, .values = {}, .results = {}};
}

}  // namespace

void add_cogvideox(Registry& registry) {
  registry.add("CogVideoXTransformer3DModel", "forward", transformer);
  registry.add("CogVideoXBlock", "forward", block);
  registry.add("CogVideoXLayerNormZero", "forward", layer_norm_zero);
  registry.add("CogVideoXPatchEmbed", "forward", patch_embed);
  registry.add("Timesteps", "forward", timesteps);
  registry.add("TimestepEmbedding", "forward", timestep_embedding);
  registry.add("FeedForward", "forward", feed_forward);
  registry.add("get_3d_sincos_pos_embed", "forward", sincos_3d_table);
  registry.add("get_2d_sincos_pos_embed", "forward", sincos_2d_table);
  registry.add("get_3d_rotary_pos_embed", "forward", rotary_3d_table);
}

}  // namespace kinora::parity
