#include "kinora/models/cogvideox/embeddings.h"

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/ops/patchify.h"

namespace kinora::models::cogvideox {
namespace {

Sincos3d sincos_of(const CogVideoXConfig& c, int64_t frames, int64_t height, int64_t width) {
  return sincos_3d(frames, height / c.patch_size, width / c.patch_size, c.width(), c.spatial_interpolation_scale,
                   c.temporal_interpolation_scale);
}

std::vector<int64_t> projection_shape(const CogVideoXConfig& c) {
  const int64_t area = c.patch_size * c.patch_size;
  if (c.patch_size_t > 0) return {c.width(), c.in_channels * area * c.patch_size_t};
  return {c.width(), c.in_channels, c.patch_size, c.patch_size};
}

/// Training from nothing starts at the sine-cosine table.
Init learned_init(const CogVideoXConfig& c) {
  return [c](Tensor& out, at::Generator&) {
    out.zero_();
    const Tensor table = sincos_of(c, c.sample_latent_frames(), c.sample_height, c.sample_width).table().flatten(0, 1);
    out.narrow(1, c.max_text_seq_length, table.size(0)).copy_(table);
  };
}

}  // namespace

PatchEmbed::PatchEmbed(const Scope& scope, const CogVideoXConfig& config, bool add_positions)
    : config_(config),
      add_positions_(add_positions),
      weight_((scope / "proj").param("weight", projection_shape(config), {.init = init::kaiming_uniform})),
      text_proj_(scope / "text_proj", config.text_embed_dim, config.width()) {
  // diffusers asks patch_bias of its convolution only.
  if (config.patch_bias || config.patch_size_t > 0) bias_ = (scope / "proj").param("bias", {config.width()});
  if (config.use_learned_positional_embeddings) {
    const int64_t patches = config.sample_latent_frames() * (config.sample_height / config.patch_size) *
                            (config.sample_width / config.patch_size);
    learned_ = scope.param("pos_embedding", {1, config.max_text_seq_length + patches, config.width()},
                           {.init = learned_init(config), .trainable = false});
  }
}

Streams PatchEmbed::operator()(const Run& run, const Tensor& video, const Tensor& text) const {
  const CogVideoXConfig& c = config_;
  const int64_t frames = video.size(1), height = video.size(3), width = video.size(4);
  const Tensor weight =
      run.weights->get(weight_).view({c.width(), c.in_channels, c.patch_frames(), c.patch_size, c.patch_size});
  const auto bias = bias_ ? std::optional<Tensor>(run.weights->get(*bias_)) : std::nullopt;
  Tensor x = ops::patchify(video.transpose(1, 2), weight, bias);
  Tensor t = text_proj_(run, text);
  const bool fits_sample = frames == c.sample_latent_frames() && height == c.sample_height && width == c.sample_width;
  if (learned_ && (height != c.sample_height || width != c.sample_width)) {
    throw UsageError(concat("this model's positions are learned for latents of ", c.sample_height, " x ",
                            c.sample_width, ", not ", height, " x ", width),
                     "use the model's own size");
  }
  if (learned_ && fits_sample) {
    x = add_learned(run, x, t);
  } else if (learned_ || add_positions_) {  // another length: the reference too falls back to the table
    x = add_table(x, frames, height, width);
  }
  return {run.layout->local(run.layout->local(x, Axis::rows, 2), Axis::frames, 1), t};
}

Tensor PatchEmbed::add_learned(const Run& run, const Tensor& video, Tensor& text) const {
  if (text.size(1) != config_.max_text_seq_length) {
    throw UsageError(concat("this model's positions are learned for ", config_.max_text_seq_length,
                            " text tokens, not ", text.size(1)));
  }
  const Tensor positions = run.weights->get(*learned_).to(video.scalar_type());
  text = text + positions.narrow(1, 0, text.size(1));
  const Tensor of_video = positions.narrow(1, text.size(1), positions.size(1) - text.size(1));
  return video + of_video.unflatten(1, {video.size(1), video.size(2)});
}

Tensor PatchEmbed::add_table(const Tensor& video, int64_t frames, int64_t height, int64_t width) const {
  const Sincos3d table = sincos_of(config_, frames, height, width);
  const Sincos3d moved{.frames = table.frames.to(video.options()), .patches = table.patches.to(video.options())};
  return video + moved.table();
}

RotaryTable rotary_positions(const CogVideoXConfig& c, int64_t frames, int64_t height, int64_t width) {
  if (!c.use_rotary_positional_embeddings) return {};
  const int64_t h = height / c.patch_size, w = width / c.patch_size;
  const auto count = [](int64_t n) { return at::arange(n, at::kFloat); };
  if (c.patch_size_t > 0) {
    const int64_t t = (frames + c.patch_size_t - 1) / c.patch_size_t;
    return rotary_3d(count(t), count(h), count(w), c.attention_head_dim);
  }
  // Shrink or stretch the grid into the sample's, keeping its proportions, and centre it (nearbyint rounds halves to
  // even, as the reference's round does).
  const auto base_h = static_cast<double>(c.sample_height / c.patch_size),
             base_w = static_cast<double>(c.sample_width / c.patch_size);
  const auto grid_h = static_cast<double>(h), grid_w = static_cast<double>(w);
  const bool is_tall = grid_h / grid_w > base_h / base_w;
  const double fit_h = is_tall ? base_h : std::nearbyint(base_w / grid_w * grid_h);
  const double fit_w = is_tall ? std::nearbyint(base_h / grid_h * grid_w) : base_w;
  const double top = std::nearbyint((base_h - fit_h) / 2), left = std::nearbyint((base_w - fit_w) / 2);
  return rotary_3d(count(frames), grid_positions(top, top + fit_h, h), grid_positions(left, left + fit_w, w),
                   c.attention_head_dim);
}

}  // namespace kinora::models::cogvideox
