#include "kinora/models/cogvideox/transformer.h"

#include "kinora/base/error.h"

namespace kinora::models::cogvideox {

CogVideoXTransformer::CogVideoXTransformer(const CogVideoXConfig& config) : config_(config) {
  const Scope root(params_);
  const int64_t width = config.width();
  patch_embed_.emplace(root / "patch_embed", config, !config.use_rotary_positional_embeddings);
  time_embedding_.emplace(root / "time_embedding", width, config.time_embed_dim, config.timestep_activation);
  if (config.ofs_embed_dim > 0) {
    ofs_embedding_.emplace(root / "ofs_embedding", config.ofs_embed_dim, config.ofs_embed_dim,
                           config.timestep_activation);
  }
  for (int i = 0; i < config.num_layers; ++i) blocks_.emplace_back(root / "transformer_blocks" / i, config, i);
  const NormOptions norm{.eps = config.norm_eps, .weight = config.norm_elementwise_affine};
  norm_final_.emplace(root / "norm_final", width, norm);
  out_modulation_.emplace(root / "norm_out" / "linear", config.time_embed_dim, 2 * width);
  norm_out_.emplace(root / "norm_out" / "norm", width, norm);
  proj_out_.emplace(root / "proj_out", width,
                    config.out_channels * config.patch_size * config.patch_size * config.patch_frames());
}

void CogVideoXTransformer::check(const Inputs& in) const {
  const Tensor &x = in.hidden_states, &text = in.encoder_hidden_states;
  if (x.dim() != 5 || x.size(2) != config_.in_channels) {
    throw UsageError(concat("CogVideoX: hidden_states are ", x.sizes()),
                     concat("give [batch, frames, ", config_.in_channels, " channels, height, width]"));
  }
  const int64_t p = config_.patch_size, pt = config_.patch_frames();
  if (x.size(1) % pt != 0 || x.size(3) % p != 0 || x.size(4) % p != 0 || x.numel() == 0) {
    throw UsageError(concat("CogVideoX: latents of ", x.size(1), " frames, ", x.size(3), " x ", x.size(4)),
                     concat("frames must be a multiple of ", pt, ", height and width of ", p));
  }
  if (text.dim() != 3 || text.size(0) != x.size(0) || text.size(1) == 0 || text.size(2) != config_.text_embed_dim) {
    throw UsageError(concat("CogVideoX: encoder_hidden_states are ", text.sizes()),
                     concat("give [", x.size(0), ", tokens, ", config_.text_embed_dim, "]"));
  }
  const auto fits_batch = [&](const Tensor& t) { return t.dim() == 1 && (t.size(0) == 1 || t.size(0) == x.size(0)); };
  if (!fits_batch(in.timestep))
    throw UsageError(concat("CogVideoX: timestep is ", in.timestep.sizes(), " for a batch of ", x.size(0)));
  if (in.ofs.defined() != ofs_embedding_.has_value() || (in.ofs.defined() && !fits_batch(in.ofs))) {
    throw UsageError(ofs_embedding_ ? "CogVideoX: this model needs an offset for each sample"
                                    : "CogVideoX: this model takes no offset");
  }
  const int64_t frames = x.size(1) / pt, rows = (x.size(3) / p) * (x.size(4) / p);
  const std::vector<int64_t> wanted{frames, rows, config_.attention_head_dim / 2};
  if (in.rotary.cos.defined() && (in.rotary.cos.sizes() != wanted || in.rotary.sin.sizes() != wanted)) {
    throw UsageError(
        concat("CogVideoX: rotary tables are ", in.rotary.cos.sizes(), ", the latents need ", at::IntArrayRef(wanted)));
  }
}

Tensor CogVideoXTransformer::time_embed(const Run& run, const Inputs& in) const {
  const auto embed = [&](const TimestepEmbedding& embedding, const Tensor& t, int64_t width) {
    const Tensor frequencies =
        timestep_frequencies(t.to(in.hidden_states.device()), width, config_.flip_sin_to_cos, config_.freq_shift);
    return embedding(run, frequencies.to(in.hidden_states.scalar_type()));
  };
  const Tensor time = embed(*time_embedding_, in.timestep, config_.width());
  return ofs_embedding_ ? time + embed(*ofs_embedding_, in.ofs, config_.ofs_embed_dim) : time;
}

// Rows back to pixels happen on the whole video; the head itself runs on this rank's rows.
Tensor CogVideoXTransformer::head(const Run& run, const Tensor& video, const Conditioning& c) const {
  const Tensor m =
      (*out_modulation_)(run, ops::activate(c.time_embed, ops::Activation::silu)).unsqueeze(1).unsqueeze(1);
  const auto shift_scale = m.chunk(2, -1);
  const Tensor y = (*norm_out_)(run, (*norm_final_)(run, video), shift_scale[1], shift_scale[0]);
  const Tensor rows = run.layout->whole((*proj_out_)(run, y), Axis::frames, 1, c.extent);
  return run.layout->whole(rows, Axis::rows, 2, c.extent);
}

Tensor CogVideoXTransformer::forward(const Run& run, const Inputs& in) const {
  check(in);
  const Tensor& x = in.hidden_states;
  const int64_t p = config_.patch_size, pt = config_.patch_frames();
  const int64_t frames = x.size(1) / pt, h = x.size(3) / p, w = x.size(4) / p;
  Conditioning c{.time_embed = time_embed(run, in), .rotary = {}, .extent = {.frames = frames, .rows = h * w}};
  if (in.rotary.cos.defined()) {
    c.rotary = {in.rotary.cos.to(x.device()), in.rotary.sin.to(x.device())};
  }
  const Stack blocks{
      .path = "transformer_blocks",
      .blocks = static_cast<int>(blocks_.size()),
      .block = [this, c](const Run& r, int index,
                         Streams streams) { return blocks_[static_cast<size_t>(index)](r, std::move(streams), c); },
      .probe = [this, c](const Run& r, std::string_view name, const Streams& streams) -> Tensor {
        if (name == "modulated_input") return blocks_[0].modulated_input(r, streams, c);
        return name == "time_embed" ? c.time_embed : Tensor();
      },
      .extent = c.extent,
      .conditioning = {c.time_embed, c.rotary.cos, c.rotary.sin}};
  const Streams streams = stack(run, blocks, (*patch_embed_)(run, x, in.encoder_hidden_states));
  // [B, T, S, (channels, pt, p, p)] -> [B, F, channels, H, W]
  const Tensor y = head(run, streams[0], c).view({x.size(0), frames, h, w, config_.out_channels, pt, p, p});
  return y.permute({0, 1, 5, 4, 2, 6, 3, 7})
      .reshape({x.size(0), x.size(1), config_.out_channels, x.size(3), x.size(4)});
}

}  // namespace kinora::models::cogvideox
