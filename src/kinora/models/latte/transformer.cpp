#include "kinora/models/latte/transformer.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/models/common/positions.h"
#include "kinora/ops/unpatchify.h"

namespace kinora::models::latte {
namespace {

constexpr double kMasked = -10000;

PatchEmbed::Options patches_of(const LatteConfig& c) {
  return {.in_channels = c.in_channels,
          .width = c.width(),
          .patch_size = c.patch_size,
          .base_size = c.sample_size / c.patch_size,
          .interpolation_scale = c.interpolation_scale()};
}

std::vector<Block> make_blocks(const Scope& root, const LatteConfig& c) {
  std::vector<Block> blocks;
  for (int i = 0; i < c.num_layers; ++i) {
    blocks.emplace_back(root / "transformer_blocks" / i, c, Axis::rows, 2 * i);
    blocks.emplace_back(root / "temporal_transformer_blocks" / i, c, Axis::frames, 2 * i + 1);
  }
  return blocks;
}

}  // namespace

LatteTransformer::LatteTransformer(const LatteConfig& config)
    : config_(config),
      pos_embed_(Scope(params_) / "pos_embed", patches_of(config)),
      adaln_single_(Scope(params_) / "adaln_single", config.width()),
      caption_projection_(Scope(params_) / "caption_projection" / "linear_1",
                          Scope(params_) / "caption_projection" / "linear_2", config.caption_channels, config.width(),
                          config.width(), ops::Activation::gelu_tanh),
      blocks_(make_blocks(Scope(params_), config)),
      scale_shift_(Scope(params_).param("scale_shift_table", {2, config.width()},
                                        {.init = init::normal(1 / std::sqrt(static_cast<double>(config.width())))})),
      norm_out_(Scope(params_) / "norm_out", config.width(), {.eps = 1e-6, .weight = false}),
      proj_out_(Scope(params_) / "proj_out", config.width(),
                config.patch_size * config.patch_size * config.out_channels),
      order_(params_.size()) {
  std::iota(order_.begin(), order_.end(), 0);
}

void LatteTransformer::check(const Inputs& in) const {
  const Tensor &x = in.hidden_states, &text = in.encoder_hidden_states, &mask = in.encoder_attention_mask;
  const int64_t p = config_.patch_size;
  if (x.dim() != 5 || x.size(1) != config_.in_channels || x.numel() == 0) {
    throw UsageError(concat("Latte: hidden_states are ", x.sizes()),
                     concat("give [batch, ", config_.in_channels, " channels, frames, height, width]"));
  }
  const int64_t batch = x.size(0), frames = x.size(2);
  if (x.size(3) % p != 0 || x.size(4) % p != 0) {
    throw UsageError(concat("Latte: latents of ", x.size(3), " x ", x.size(4)),
                     concat("height and width must be multiples of ", p));
  }
  if (frames > config_.video_length) {
    throw UsageError(concat("Latte: ", frames, " frames"), concat("this model knows up to ", config_.video_length));
  }
  if (text.dim() != 3 || text.size(0) != batch || text.size(1) == 0 || text.size(2) != config_.caption_channels) {
    throw UsageError(concat("Latte: encoder_hidden_states are ", text.sizes()),
                     concat("give [", batch, ", tokens, ", config_.caption_channels, "]"));
  }
  if (in.timestep.dim() != 1 || (in.timestep.size(0) != 1 && in.timestep.size(0) != batch)) {
    throw UsageError(concat("Latte: timestep is ", in.timestep.sizes(), " for a batch of ", batch));
  }
  if (!mask.defined()) return;
  const bool is_mask = mask.dim() == 2 && mask.size(0) == batch;
  const bool is_bias =
      mask.dim() == 3 && (mask.size(0) == batch || mask.size(0) == batch * frames) && mask.size(1) == 1;
  if (!(is_mask || is_bias) || mask.size(-1) != text.size(1)) {
    throw UsageError(concat("Latte: encoder_attention_mask is ", mask.sizes()),
                     concat("give [", batch, ", ", text.size(1), "]"));
  }
}

/// [B, 1 or T, 1, L]
Tensor LatteTransformer::text_bias(const Inputs& in) const {
  if (!in.encoder_attention_mask.defined()) return {};
  const Tensor given = in.encoder_attention_mask.to(in.hidden_states.options());
  if (given.dim() == 2) return ((1 - given) * kMasked).unsqueeze(1).unsqueeze(1);
  return given.unflatten(0, {in.hidden_states.size(0), -1});
}

/// [1, T, 1, C]
Tensor LatteTransformer::frame_positions(const Tensor& like, int64_t frames) const {
  return sincos_1d(at::arange(frames, at::kFloat), config_.width()).to(like.options()).unsqueeze(0).unsqueeze(2);
}

Tensor LatteTransformer::head(const Run& run, const Tensor& x, const Tensor& time_embed) const {
  const Tensor table = run.weights->get(scale_shift_);
  const Tensor m = (table + time_embed.unsqueeze(1)).unsqueeze(2).unsqueeze(2);  // [B, 2, 1, 1, C]
  return proj_out_(run, norm_out_(run, x, m.select(1, 1), m.select(1, 0)));
}

Tensor LatteTransformer::forward(const Run& run, const Inputs& in) const {
  check(in);
  run.weights->expect(order_);
  const Tensor& latents = in.hidden_states;
  const Tensor embedded = pos_embed_(run, latents);
  const Extent extent{.frames = embedded.size(1), .rows = embedded.size(2)};
  const auto time = adaln_single_(run, in.timestep.to(latents.device()), latents.scalar_type());
  const Conditioning c{.extent = extent,
                       .time = time.six,
                       .text = caption_projection_(run, in.encoder_hidden_states),
                       .text_bias = text_bias(in)};
  const bool in_time = in.enable_temporal_attentions;
  Tensor positions;  // of frames: they enter before the first temporal block, and a picture has none
  if (in_time && extent.frames > 1) positions = frame_positions(latents, extent.frames);

  Stack blocks{.path = "blocks", .blocks = static_cast<int>(blocks_.size())};
  blocks.block = [this, c, positions, in_time](const Run& r, int index, Streams streams) -> Streams {
    if (index % 2 == 1 && !in_time) return streams;
    Tensor x = streams[0];
    if (index == 1 && positions.defined()) x = x + r.layout->local(positions, Axis::frames, 1);
    return {blocks_[static_cast<size_t>(index)](r, x, c)};
  };
  blocks.probe = [this, c, embed = time.embed](const Run& r, std::string_view probe, const Streams& streams) -> Tensor {
    if (probe == "modulated_input") return blocks_[0].modulated_input(r, streams[0], c);
    return probe == "time_embed" ? embed : Tensor();
  };
  blocks.extent = extent;
  blocks.conditioning = {c.time, c.text, c.text_bias, positions};
  const Tensor x = run.layout->local(run.layout->local(embedded, Axis::rows, 2), Axis::frames, 1);
  // The head works row by row, so patches are gathered, which are narrower than the model.
  Tensor rows = head(run, stack(run, blocks, {x})[0], time.embed);
  rows = run.layout->whole(run.layout->whole(rows, Axis::frames, 1, extent), Axis::rows, 2, extent);
  return ops::unpatchify(rows, {1, config_.patch_size, config_.patch_size}, latents.sizes().slice(2));
}

}  // namespace kinora::models::latte
