// Runners of Wan's transformer with its parts.
#include "kinora/models/wan/transformer.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

namespace wan = models::wan;
using models::RotaryTable;

/// WanRotaryPosEmbed for a latent of {"shape": [B, C, F, H, W]}.
RotaryTable rotary_of(const Json& config, const Json& call) {
  const JsonObject o(config, "WanRotaryPosEmbed");
  const auto patch = o.require_ints("patch_size", 1, 64);
  const auto shape = JsonObject(call, "WanRotaryPosEmbed").require_ints("shape", 1, 4096);
  return wan::rotary_positions(o.require_int("attention_head_dim", 2, 1024), shape.at(2) / patch.at(0),
                               shape.at(3) / patch.at(1), shape.at(4) / patch.at(2));
}

Outputs transformer(const Case& c) {
  const wan::WanTransformer model(wan::WanConfig::from_json(c.config, c.cls));
  auto weights = c.weights(model.params());
  wan::WanTransformer::Inputs in{.hidden_states = c.input("hidden_states"),
                                 .encoder_hidden_states = c.input("encoder_hidden_states"),
                                 .timestep = c.input("timestep")};
  const char* const image = "encoder_hidden_states_image";
  if (c.has_input(image)) in.encoder_hidden_states_image = c.input(image);
  return {.tensors = {{"sample", model.forward({.weights = &weights}, in)}}, .values = {}, .results = {}};
}

Outputs block(const Case& c) {
  const JsonObject o(c.config, c.cls);
  wan::WanConfig config;
  config.num_attention_heads = o.require_int("num_heads", 1, 1024);
  config.attention_head_dim = o.require_int("dim", 1, 4096) / config.num_attention_heads;
  config.ffn_dim = o.require_int("ffn_dim", 1, 4096);
  config.cross_attn_norm = o.bool_or("cross_attn_norm", false);
  config.eps = o.number_or("eps", config.eps);
  Params params;
  const wan::Block block(Scope(params), config, 0);
  auto weights = c.weights(params);

  const Json& rope = c.call.at("rope");
  wan::Conditioning conditioning;
  conditioning.rotary = rotary_of(rope.at("config"), rope);
  const int64_t frames = conditioning.rotary.cos.size(0), rows = conditioning.rotary.cos.size(1);
  conditioning.extent = {.frames = frames, .rows = rows};
  conditioning.context.rows = c.input("encoder_hidden_states");
  const Tensor time = c.input("temb").flatten(-2);  // [B, 6 C], or [B, T S, 6 C]
  conditioning.time_projection = time.dim() == 2 ? time : time.unflatten(1, {frames, rows});
  const Tensor x = c.input("hidden_states").unflatten(1, {frames, rows});
  return {
      .tensors = {{"out", block({.weights = &weights}, x, conditioning).flatten(1, 2)}}, .values = {}, .results = {}};
}

/// With keys for an image and thus an attention to a context, of which the last 512 rows are text.
Outputs attention(const Case& c) {
  const JsonObject o(c.config, c.cls);
  const int64_t width = o.require_int("dim", 1, 4096);
  Params params;
  const wan::CrossAttention layer(Scope(params), width, o.require_int("dim_head", 1, 1024), o.number_or("eps", 1e-5),
                                  o.require_int("added_kv_proj_dim") == width);
  auto weights = c.weights(params);
  const Tensor context = c.input("encoder_hidden_states"), x = c.input("hidden_states").unsqueeze(1);
  const Tensor out = layer({.weights = &weights}, x, {.rows = context, .image_rows = context.size(1) - 512});
  return {.tensors = {{"out", out.squeeze(1)}}, .values = {}, .results = {}};
}

Outputs condition_embedder(const Case& c) {
  const JsonObject o(c.config, c.cls);
  wan::WanConfig config;
  config.num_attention_heads = 1;  // one head as wide as the model: only the width counts here
  config.attention_head_dim = o.require_int("dim", 1, 4096);
  config.freq_dim = o.require_int("time_freq_dim", 2, 4096);
  config.text_dim = o.require_int("text_embed_dim", 1, 4096);
  config.image_dim = o.int_or("image_embed_dim", 0, 1, 4096);
  config.pos_embed_seq_len = o.int_or("pos_embed_seq_len", 0, 1, 4096);
  Params params;
  const wan::ConditionEmbedder embed(Scope(params), config);
  auto weights = c.weights(params);
  const Run run{.weights = &weights};
  const Tensor time = embed.time(run, c.input("timestep"), c.dtype());
  Outputs out;
  out.tensors = {{"out0", time},
                 {"out1", embed.time_projection(run, time)},
                 {"out2", embed.text(run, c.input("encoder_hidden_states"))}};
  if (config.image_dim > 0) out.tensors["out3"] = embed.image(run, c.input("encoder_hidden_states_image"));
  return out;
}

/// The reference's form: [1, T S, 1, D], each value twice.
Tensor doubled(const Tensor& table) { return table.flatten(0, 1).repeat_interleave(2, 1).unsqueeze(0).unsqueeze(2); }

Outputs rotary_table(const Case& c) {
  const RotaryTable table = rotary_of(c.config, c.call.at("tables"));
  return {.tensors = {{"cos", doubled(table.cos)}, {"sin", doubled(table.sin)}}, .values = {}, .results = {}};
}

}  // namespace

void add_wan(Registry& registry) {
  registry.add("WanTransformer3DModel", "forward", transformer);
  registry.add("WanTransformerBlock", "forward", block);
  registry.add("WanAttention", "forward", attention);
  registry.add("WanTimeTextImageEmbedding", "forward", condition_embedder);
  registry.add("WanRotaryPosEmbed", "forward", rotary_table);
}

}  // namespace kinora::parity
