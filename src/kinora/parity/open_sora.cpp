// Runners of Open-Sora's transformer and its parts.
#include <cmath>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/ops/attention.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

namespace open_sora = models::open_sora;

int64_t integer(const Case& c, const char* key) { return c.config.at(key).get<int64_t>(); }
bool flag(const Case& c, const char* key, bool fallback) { return c.config.value(key, fallback); }

Outputs one(Tensor y) { return {.tensors = {{"y", std::move(y)}}, .values = {}, .results = {}}; }

/// A layer made from the case's weights, and a Run that holds them.
template <typename Layer>
struct Loaded {
  template <typename... Args>
  explicit Loaded(const Case& c, const Args&... args) : layer(Scope(params), args...), weights(c.weights(params)) {
    run.weights = &weights;
  }
  template <typename... Args>
  auto operator()(const Args&... args) const {
    return layer(run, args...);
  }

  Params params;
  Layer layer;
  ResidentWeights weights;
  Run run;
};

std::array<int64_t, 3> patch_size(const Case& c) { return c.config.at("patch_size").get<std::array<int64_t, 3>>(); }

/// [B, T] bool of an input given as rows of booleans; undefined when the case has none.
Tensor frame_mask(const Case& c) {
  if (!c.has_input("x_mask")) return {};
  std::vector<Tensor> rows;
  for (const Json& row : c.value("x_mask")) {
    Tensor values = at::zeros({static_cast<int64_t>(row.size())}, at::kBool);
    for (size_t i = 0; i < row.size(); ++i) values[static_cast<int64_t>(i)] = row[i].get<bool>();
    rows.push_back(values);
  }
  return at::stack(rows);
}

/// Rows of ones that end after `lens` tokens.
Tensor prefix_mask(const std::vector<int64_t>& lens, int64_t tokens) {
  Tensor mask = at::zeros({static_cast<int64_t>(lens.size()), tokens}, at::kLong);
  for (size_t i = 0; i < lens.size(); ++i) mask[static_cast<int64_t>(i)].narrow(0, 0, lens[i]).fill_(1);
  return mask;
}

Outputs patch_embed(const Case& c) {
  const Loaded<open_sora::PatchEmbed> layer(c, patch_size(c), integer(c, "in_chans"), integer(c, "embed_dim"));
  return one(layer(c.input("x")).flatten(1, 2));
}

Outputs timestep_embedder(const Case& c) {
  const int64_t width = integer(c, "frequency_embedding_size");
  const Loaded<open_sora::ScalarEmbedder> layer(c, integer(c, "hidden_size"), width);
  Outputs out = one(layer(c.input("t"), c.dtype()));
  out.tensors["freq"] = open_sora::scalar_frequencies(c.input("t"), width);
  return out;
}

Outputs size_embedder(const Case& c) {
  const Loaded<open_sora::ScalarEmbedder> layer(c, integer(c, "hidden_size"));
  const Tensor s = c.input("s");
  return one(layer(s.repeat({c.value("bs").get<int64_t>() / s.size(0)}), c.dtype()));
}

Outputs caption_embedder(const Case& c) {
  const Loaded<open_sora::CaptionEmbedder> layer(c, integer(c, "in_channels"), integer(c, "hidden_size"),
                                                 integer(c, "token_num"));
  const Tensor caption = c.input("caption");
  Outputs out = one(layer(caption));
  const auto drop = c.value("force_drop_ids").get<std::vector<int64_t>>();
  std::vector<Tensor> kept;
  for (size_t i = 0; i < drop.size(); ++i) {
    const Tensor null = layer.run.weights->get(layer.layer.null_caption()).unsqueeze(0);
    kept.push_back(drop[i] == 1 ? null : caption[static_cast<int64_t>(i)]);
  }
  out.tensors["y_dropped"] = layer(at::stack(kept));
  return out;
}

Outputs position(const Case& c) {
  Outputs out;
  int64_t i = 0;
  for (const Json& entry : c.value("cases")) {
    const auto base = entry[3].is_null() ? std::nullopt : std::optional<double>(entry[3].get<double>());
    out.tensors[concat("y", i++)] =
        open_sora::position_table(entry[0].get<int64_t>(), entry[1].get<int64_t>(), integer(c, "dim"),
                                  entry[2].get<double>(), base, at::TensorOptions(c.dtype()));
  }
  return out;
}

Outputs rotary(const Case& c) {
  const Tensor q = c.input("q"), freqs = open_sora::rotary_frequencies(integer(c, "dim")).to(c.dtype());
  const open_sora::Rotary table = open_sora::rotary_table(freqs, q.size(2));
  Outputs out = one(ops::qk_norm_rotary(q, std::nullopt, std::nullopt, 0, table.cos, table.sin));
  out.tensors["freqs"] = freqs;
  return out;
}

Outputs rms_norm(const Case& c) {
  const Loaded<RmsNorm> norm(c, integer(c, "hidden_size"), c.config.at("eps").get<double>());
  return one(norm(c.input("x")));
}

Outputs self_attention(const Case& c) {
  const int64_t width = integer(c, "dim"), heads = integer(c, "num_heads");
  const open_sora::SelfAttention::Options options{.qk_norm = flag(c, "qk_norm", true),
                                                  .norm_after_rotary = flag(c, "qk_norm_legacy", false),
                                                  .proj_init = init::zeros};
  const Loaded<open_sora::SelfAttention> attention(c, width, heads, options);
  const Tensor x = c.input("x");
  const auto table = open_sora::rotary_table(open_sora::rotary_frequencies(width / heads).to(c.dtype()), x.size(1));
  if (flag(c, "rope", false))
    return one(attention(x.unsqueeze(2), Axis::frames, Extent{.frames = x.size(1)}, &table).squeeze(2));
  const open_sora::Rotary* none = nullptr;
  return one(attention(x.unsqueeze(1), Axis::rows, Extent{.rows = x.size(1)}, none).squeeze(1));
}

Outputs cross_attention(const Case& c) {
  const Loaded<open_sora::CrossAttention> attention(c, integer(c, "d_model"), integer(c, "num_heads"));
  const auto lengths = c.value("lens").get<std::vector<int64_t>>();
  const Tensor keys_values = attention.layer.keys_values(attention.run, c.input("cond"));
  return one(attention(c.input("x").unsqueeze(1), keys_values, lengths).squeeze(1));
}

Tensor rows_of_frames(const Case& c) {
  return c.input("x").unflatten(1, {c.value("T").get<int64_t>(), c.value("S").get<int64_t>()});
}

open_sora::Conditioning masked(const Case& c) {
  open_sora::Conditioning conditioning;
  conditioning.extent = {.frames = c.value("T").get<int64_t>(), .rows = c.value("S").get<int64_t>()};
  conditioning.frame_mask = frame_mask(c);
  if (conditioning.frame_mask.defined()) conditioning.frame_mask = conditioning.frame_mask.unsqueeze(2).unsqueeze(3);
  return conditioning;
}

Outputs block(const Case& c) {
  models::STDiT3Config config;
  config.hidden_size = integer(c, "hidden_size");
  config.num_heads = integer(c, "num_heads");
  config.mlp_ratio = c.config.at("mlp_ratio").get<double>();
  config.qk_norm = flag(c, "qk_norm", true);
  const Axis along = flag(c, "temporal", false) ? Axis::frames : Axis::rows;
  const Loaded<open_sora::Block> layer(c, config, along, 0);
  open_sora::Conditioning conditioning = masked(c);
  conditioning.caption = {c.input("y"), c.value("y_lens").get<std::vector<int64_t>>(), {}};
  conditioning.time = c.input("t").unflatten(1, {6, -1});
  if (c.has_input("t0")) conditioning.time_zero = c.input("t0").unflatten(1, {6, -1});
  const Tensor frequencies = open_sora::rotary_frequencies(config.head_dim()).to(c.dtype());
  conditioning.rotary = open_sora::rotary_table(frequencies, conditioning.extent.frames);
  return one(layer(rows_of_frames(c), conditioning).flatten(1, 2));
}

Outputs final_layer(const Case& c) {
  const Loaded<open_sora::FinalLayer> layer(c, integer(c, "hidden_size"),
                                            integer(c, "num_patch") * integer(c, "out_channels"));
  open_sora::Conditioning conditioning = masked(c);
  conditioning.embed = c.input("t");
  if (c.has_input("t0")) conditioning.embed_zero = c.input("t0");
  return one(layer(rows_of_frames(c), conditioning).flatten(1, 2));
}

Outputs stdit3(const Case& c) {
  Json settings = c.config;
  settings.erase("note");
  const auto config = models::STDiT3Config::from_json(settings, c.file.filename().string());
  const models::STDiT3 model(config);
  ResidentWeights weights = c.weights(model.params());
  Run run;
  run.weights = &weights;
  models::STDiT3Inputs in;
  in.latents = c.input("x");
  in.timestep = c.input("timestep");
  in.caption = c.input("caption");
  in.fps = c.input("fps");
  in.height = c.value("height").get<double>();
  in.width = c.value("width").get<double>();
  in.frame_mask = frame_mask(c);
  if (c.has_input("mask_lens"))
    in.caption_mask = prefix_mask(c.value("mask_lens").get<std::vector<int64_t>>(), config.model_max_length);
  return one(model.forward(run, in));
}

}  // namespace

void add_open_sora(Registry& registry) {
  registry.add("OpenSoraPatchEmbed3D", "forward", patch_embed);
  registry.add("TimestepEmbedder", "forward", timestep_embedder);
  registry.add("SizeEmbedder", "forward", size_embedder);
  registry.add("OpenSoraCaptionEmbedder", "forward", caption_embedder);
  registry.add("OpenSoraPositionEmbedding2D", "forward", position);
  registry.add("RotaryEmbedding", "rotate_queries_or_keys", rotary);
  registry.add("LlamaRMSNorm", "forward", rms_norm);
  registry.add("OpenSoraAttention", "forward", self_attention);
  registry.add("OpenSoraMultiHeadCrossAttention", "forward", cross_attention);
  registry.add("STDiT3Block", "forward", block);
  registry.add("T2IFinalLayer", "forward", final_layer);
  registry.add("STDiT3", "forward", stdit3);
}

}  // namespace kinora::parity
