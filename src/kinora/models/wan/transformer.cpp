#include "kinora/models/wan/transformer.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/ops/patchify.h"
#include "kinora/ops/unpatchify.h"

namespace kinora::models::wan {
namespace {

constexpr int64_t kTextRows = 512;

/// How many of all rows of the context belong to the image: the reference takes the last 512 for the text. Of fewer
/// rows it counts from the end again, as a slice in Python does with a negative index.
int64_t image_rows_of(int64_t rows) {
  const int64_t first_text = rows - kTextRows;
  return first_text >= 0 ? first_text : std::max<int64_t>(0, rows + first_text);
}

/// This rank's part of a tensor [B, T, S, ...] over all rows of the video.
Tensor local_rows(const Run& run, const Tensor& whole) {
  return run.layout->local(run.layout->local(whole, Axis::rows, 2), Axis::frames, 1);
}

}  // namespace

WanTransformer::WanTransformer(const WanConfig& config) : config_(config) {
  const Scope root(params_);
  const auto& p = config.patch_size;
  const int64_t width = config.width();
  patch_weight_ = (root / "patch_embedding")
                      .param("weight", {width, config.in_channels, p[0], p[1], p[2]}, {.init = init::xavier_uniform});
  patch_bias_ = (root / "patch_embedding").param("bias", {width});
  condition_embedder_.emplace(root / "condition_embedder", config);
  for (int i = 0; i < config.num_layers; ++i) blocks_.emplace_back(root / "blocks" / i, config, i);
  scale_shift_ =
      root.param("scale_shift_table", {1, 2, width}, {.init = init::normal(1 / std::sqrt(static_cast<double>(width)))});
  norm_out_.emplace(root / "norm_out", width, NormOptions{.eps = config.eps, .weight = false});
  proj_out_.emplace(root / "proj_out", width, config.out_channels * config.patch_volume());
}

std::array<int64_t, 3> WanTransformer::grid(const Tensor& video) const {
  const auto& p = config_.patch_size;
  return {video.size(2) / p[0], video.size(3) / p[1], video.size(4) / p[2]};
}

void WanTransformer::check(const Inputs& in) const {
  const Tensor &x = in.hidden_states, &text = in.encoder_hidden_states, &t = in.timestep;
  if (x.dim() != 5 || x.size(1) != config_.in_channels || x.numel() == 0) {
    throw UsageError(concat("Wan: hidden_states are ", x.sizes()),
                     concat("give [batch, ", config_.in_channels, " channels, frames, height, width]"));
  }
  const auto& p = config_.patch_size;
  if (x.size(2) % p[0] != 0 || x.size(3) % p[1] != 0 || x.size(4) % p[2] != 0) {
    throw UsageError(concat("Wan: latents of ", x.size(2), " frames, ", x.size(3), " x ", x.size(4)),
                     concat("they must be multiples of the patch, ", at::IntArrayRef(p)));
  }
  const auto [frames, h, w] = grid(x);
  if (std::max({frames, h, w}) > config_.rope_max_seq_len) {
    throw UsageError(concat("Wan: ", frames, " x ", h, " x ", w, " patches"),
                     concat("this model has ", config_.rope_max_seq_len, " positions along each axis"));
  }
  if (text.dim() != 3 || text.size(0) != x.size(0) || text.size(1) == 0 || text.size(2) != config_.text_dim) {
    throw UsageError(concat("Wan: encoder_hidden_states are ", text.sizes()),
                     concat("give [", x.size(0), ", tokens, ", config_.text_dim, "]"));
  }
  const bool of_samples = t.dim() == 1 && (t.size(0) == 1 || t.size(0) == x.size(0));
  const bool of_rows = t.dim() == 2 && t.size(0) == x.size(0) && t.size(1) == frames * h * w;
  if (!of_samples && !of_rows) {
    throw UsageError(concat("Wan: timestep is ", t.sizes(), " for a batch of ", x.size(0)),
                     concat("give one a sample or [", x.size(0), ", ", frames * h * w, "]"));
  }
  check_image(in);
}

void WanTransformer::check_image(const Inputs& in) const {
  const Tensor& image = in.encoder_hidden_states_image;
  if (image.defined() != (config_.image_dim > 0)) {
    throw UsageError(config_.image_dim > 0 ? "Wan: this model needs an image's features"
                                           : "Wan: this model takes no image's features");
  }
  if (!image.defined()) return;
  const int64_t batch = in.hidden_states.size(0), positions = config_.pos_embed_seq_len;
  const bool is_features = image.dim() == 3 && image.size(2) == config_.image_dim && image.size(1) > 0;
  const bool fits =
      is_features && (positions > 0 ? image.size(0) * image.size(1) == batch * positions : image.size(0) == batch);
  if (!fits) {
    throw UsageError(concat("Wan: encoder_hidden_states_image are ", image.sizes()),
                     positions > 0 ? concat("give ", positions, " rows of ", config_.image_dim, " a sample")
                                   : concat("give [", batch, ", rows, ", config_.image_dim, "]"));
  }
  const int64_t rows = image.size(0) * image.size(1) / batch + in.encoder_hidden_states.size(1);
  if (config_.added_kv_proj_dim > 0 && image_rows_of(rows) == 0) {
    throw UsageError(concat("Wan: ", rows, " rows of image and text leave none for the image"),
                     concat("give ", kTextRows, " text tokens"));
  }
}

Conditioning WanTransformer::condition(const Run& run, const Inputs& in) const {
  const Tensor& x = in.hidden_states;
  const auto [frames, h, w] = grid(x);
  const ConditionEmbedder& embed = *condition_embedder_;
  Conditioning c;
  c.extent = {.frames = frames, .rows = h * w};
  // Cut before they are embedded: six widths a row are as much memory as half a block.
  const Tensor t = in.timestep.dim() == 2 ? local_rows(run, in.timestep.unflatten(1, {frames, h * w})) : in.timestep;
  c.time_embed = embed.time(run, t.to(x.device()), x.scalar_type());
  c.time_projection = embed.time_projection(run, c.time_embed);
  c.context.rows = embed.text(run, in.encoder_hidden_states);
  if (in.encoder_hidden_states_image.defined()) {
    c.context.rows = at::cat({embed.image(run, in.encoder_hidden_states_image), c.context.rows}, 1);
    c.context.image_rows = image_rows_of(c.context.rows.size(1));
  }
  c.rotary = rotary_positions(config_.attention_head_dim, frames, h, w, x.device());
  return c;
}

// Rows back to pixels happen on the whole video; the head itself runs on this rank's rows.
Tensor WanTransformer::head(const Run& run, const Tensor& x, const Conditioning& c) const {
  const Tensor m = run.weights->get(*scale_shift_) + for_rows(c.time_embed).unsqueeze(-2);  // [B, T or 1, S or 1, 2, C]
  const Tensor y = (*proj_out_)(run, (*norm_out_)(run, x, m.select(-2, 1), m.select(-2, 0)));
  const Tensor rows = run.layout->whole(y, Axis::frames, 1, c.extent);
  return run.layout->whole(rows, Axis::rows, 2, c.extent);
}

Tensor WanTransformer::forward(const Run& run, const Inputs& in) const {
  check(in);
  const Tensor patches =
      ops::patchify(in.hidden_states, run.weights->get(*patch_weight_), run.weights->get(*patch_bias_));
  const auto c = std::make_shared<const Conditioning>(condition(run, in));
  const Stack blocks{.path = "blocks",
                     .blocks = static_cast<int>(blocks_.size()),
                     .block = [this, c](const Run& r, int index, Streams streams) -> Streams {
                       return {blocks_[static_cast<size_t>(index)](r, streams[0], *c)};
                     },
                     .probe = [this, c](const Run& r, std::string_view name, const Streams& streams) -> Tensor {
                       if (name == "modulated_input") return blocks_[0].modulated_input(r, streams[0], *c);
                       if (name == "time_embed") return c->time_embed;
                       return name == "time_projection" ? c->time_projection : Tensor();
                     },
                     .extent = c->extent,
                     .conditioning = {c->time_projection, c->context.rows, c->rotary.cos, c->rotary.sin}};
  const Tensor x = stack(run, blocks, {local_rows(run, patches)})[0];
  return ops::unpatchify(head(run, x, *c), config_.patch_size, in.hidden_states.sizes().slice(2));
}

}  // namespace kinora::models::wan
