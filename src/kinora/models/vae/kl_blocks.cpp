#include "kinora/models/vae/kl_blocks.h"

#include "kinora/ops/attention.h"
#include "kinora/ops/residual.h"

namespace kinora::models::kl {
namespace {

using ops::Activation;

constexpr double kEps = 1e-6;

Conv conv3x3(const Scope& scope, int64_t in, int64_t out) {
  return Conv(scope, in, out, {3, 3}, {.stride = {}, .padding = {1, 1}});
}

Conv halving(const Scope& scope, int64_t channels) {
  return Conv(scope / "downsamplers" / 0 / "conv", channels, channels, {3, 3}, {.stride = {2, 2}, .padding = {}});
}

Conv doubling(const Scope& scope, int64_t channels) {
  return conv3x3(scope / "upsamplers" / 0 / "conv", channels, channels);
}

}  // namespace

ResnetBlock::ResnetBlock(const Scope& scope, int64_t in, int64_t out, int64_t groups)
    : norm1_(scope / "norm1", groups, in, kEps),
      conv1_(conv3x3(scope / "conv1", in, out)),
      norm2_(scope / "norm2", groups, out, kEps),
      conv2_(conv3x3(scope / "conv2", out, out)) {
  if (in != out) shortcut_.emplace(scope / "conv_shortcut", in, out, std::vector<int64_t>{1, 1});
}

Tensor ResnetBlock::operator()(const Run& run, Tensor x) const {
  Tensor h = norm1_(run, x, Activation::silu);
  if (shortcut_) x = (*shortcut_)(run, x);
  h = conv1_(run, h);
  h = norm2_(run, h, Activation::silu);
  h = conv2_(run, h);
  return ops::add_residual(x, h);
}

PixelAttention::PixelAttention(const Scope& scope, int64_t channels, int64_t groups)
    : norm_(scope / "group_norm", groups, channels, kEps),
      // The other names are those of checkpoints from before diffusers 0.18.
      q_((scope / "to_q").also_at(scope / "query"), channels, channels),
      k_((scope / "to_k").also_at(scope / "key"), channels, channels),
      v_((scope / "to_v").also_at(scope / "value"), channels, channels),
      out_((scope / "to_out" / 0).also_at(scope / "proj_attn"), channels, channels) {}

Tensor PixelAttention::operator()(const Run& run, Tensor x) const {
  const Tensor rows = norm_(run, x).flatten(2).transpose(1, 2).contiguous();  // [B, H W, C]
  Tensor y =
      ops::attention(q_(run, rows).unsqueeze(1), k_(run, rows).unsqueeze(1), v_(run, rows).unsqueeze(1)).squeeze(1);
  y = out_(run, y).transpose(1, 2).reshape(x.sizes());
  return ops::add_residual(x, y);
}

MidBlock::MidBlock(const Scope& scope, int64_t channels, int64_t groups, bool attention)
    : first_(scope / "resnets" / 0, channels, channels, groups),
      second_(scope / "resnets" / 1, channels, channels, groups) {
  if (attention) attention_.emplace(scope / "attentions" / 0, channels, groups);
}

Tensor MidBlock::operator()(const Run& run, Tensor x) const {
  x = first_(run, std::move(x));
  if (attention_) x = (*attention_)(run, std::move(x));
  return second_(run, std::move(x));
}

Encoder::Encoder(const Scope& scope, int64_t in, int64_t latent, const Widths& widths)
    : conv_in_(conv3x3(scope / "conv_in", in, widths.channels.front())),
      mid_(scope / "mid_block", widths.channels.back(), widths.groups, widths.mid_attention),
      norm_out_(scope / "conv_norm_out", widths.groups, widths.channels.back(), kEps),
      conv_out_(conv3x3(scope / "conv_out", widths.channels.back(), 2 * latent)) {
  int64_t width = widths.channels.front();
  for (size_t i = 0; i < widths.channels.size(); ++i) {
    const Scope place = scope / "down_blocks" / static_cast<int64_t>(i);
    Level level;
    for (int64_t j = 0; j < widths.layers; ++j) {
      level.blocks.emplace_back(place / "resnets" / j, width, widths.channels[i], widths.groups);
      width = widths.channels[i];
    }
    if (i + 1 < widths.channels.size()) level.resample = halving(place, width);
    levels_.push_back(std::move(level));
  }
}

Tensor Encoder::operator()(const Run& run, Tensor x) const {
  x = conv_in_(run, x);
  for (const Level& level : levels_) {
    for (const ResnetBlock& block : level.blocks) x = block(run, std::move(x));
    // One zero row below and one column to the right; none above and left: that is what the published weights were
    // trained with.
    if (level.resample) x = (*level.resample)(run, at::constant_pad_nd(x, {0, 1, 0, 1}));
  }
  x = mid_(run, std::move(x));
  x = norm_out_(run, x, Activation::silu);
  return conv_out_(run, x);
}

Decoder::Decoder(const Scope& scope, int64_t latent, int64_t out, const Widths& widths)
    : conv_in_(conv3x3(scope / "conv_in", latent, widths.channels.back())),
      mid_(scope / "mid_block", widths.channels.back(), widths.groups, widths.mid_attention),
      norm_out_(scope / "conv_norm_out", widths.groups, widths.channels.front(), kEps),
      conv_out_(conv3x3(scope / "conv_out", widths.channels.front(), out)) {
  const size_t levels = widths.channels.size();
  int64_t width = widths.channels.back();
  for (size_t i = 0; i < levels; ++i) {
    const Scope place = scope / "up_blocks" / static_cast<int64_t>(i);
    Level level;
    for (int64_t j = 0; j < widths.layers + 1; ++j) {
      level.blocks.emplace_back(place / "resnets" / j, width, widths.channels[levels - 1 - i], widths.groups);
      width = widths.channels[levels - 1 - i];
    }
    if (i + 1 < levels) level.resample = doubling(place, width);
    levels_.push_back(std::move(level));
  }
}

Tensor Decoder::operator()(const Run& run, Tensor z) const {
  Tensor x = conv_in_(run, z);
  x = mid_(run, std::move(x));
  for (const Level& level : levels_) {
    for (const ResnetBlock& block : level.blocks) x = block(run, std::move(x));
    if (level.resample) {
      x = at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
      x = (*level.resample)(run, x);
    }
  }
  x = norm_out_(run, x, Activation::silu);
  return conv_out_(run, x);
}

}  // namespace kinora::models::kl
