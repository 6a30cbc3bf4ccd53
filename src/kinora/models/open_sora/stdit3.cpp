#include "kinora/models/open_sora/stdit3.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/ops/patchify.h"
#include "kinora/ops/unpatchify.h"

namespace kinora::models {
namespace {

using open_sora::Block;
using open_sora::Caption;
using open_sora::Conditioning;

/// Where only the temporal blocks are trained, all else is frozen.
Scope outside_time(const Scope& scope, const STDiT3Config& config) {
  return config.only_train_temporal ? scope.frozen() : scope;
}

Scope text_scope(const Scope& scope, const STDiT3Config& config) {
  return (config.freeze_y_embedder ? scope.frozen() : outside_time(scope, config)) / "y_embedder";
}

std::vector<Block> make_blocks(const Scope& scope, const STDiT3Config& config) {
  std::vector<Block> blocks;
  for (int64_t b = 0; b < config.depth; ++b) {
    blocks.emplace_back(outside_time(scope, config) / "spatial_blocks" / b, config, Axis::rows,
                        static_cast<int>(2 * b));
    blocks.emplace_back(scope / "temporal_blocks" / b, config, Axis::frames, static_cast<int>(2 * b + 1));
  }
  return blocks;
}

/// As Python rounds: halves go to the even neighbour.
double round_half_even(double x) { return std::nearbyint(x); }

}  // namespace

STDiT3::STDiT3(const STDiT3Config& config)
    : config_(config),
      x_embedder_(outside_time(Scope(params_), config) / "x_embedder", config.patch_size, config.in_channels,
                  config.hidden_size),
      t_embedder_(outside_time(Scope(params_), config) / "t_embedder", config.hidden_size),
      fps_embedder_(outside_time(Scope(params_), config) / "fps_embedder", config.hidden_size,
                    open_sora::ScalarEmbedder::kFrequencies, init::normal(0.02), init::zeros),
      t_block_(outside_time(Scope(params_), config) / "t_block" / "1", config.hidden_size, 6 * config.hidden_size),
      y_embedder_(text_scope(Scope(params_), config), config.caption_channels, config.hidden_size,
                  config.model_max_length),
      rope_freqs_((Scope(params_) / "rope")
                      .param("freqs", {config.head_dim() / 2},
                             {.init = [d = config.head_dim()](
                                          Tensor& out, at::Generator&) { out.copy_(open_sora::rotary_frequencies(d)); },
                              .trainable = false,
                              .optional = true})),
      blocks_(make_blocks(Scope(params_), config)),
      final_layer_(outside_time(Scope(params_), config) / "final_layer", config.hidden_size,
                   config.patch_volume() * config.out_channels()),
      order_(params_.size()) {
  std::iota(order_.begin(), order_.end(), 0);
}

void STDiT3::check(const STDiT3Inputs& in) const {
  const auto refuse = [](const char* what, const Tensor& got, const std::string& wanted) {
    throw UsageError(concat("STDiT3: ", what, " ", got.sizes()), concat("it takes ", wanted));
  };
  if (!in.latents.defined() || in.latents.dim() != 5 || in.latents.size(1) != config_.in_channels ||
      in.latents.numel() == 0) {
    refuse("latents", in.latents.defined() ? in.latents : at::empty({0}),
           concat("[batch, ", config_.in_channels, ", frames, height, width]"));
  }
  const int64_t batch = in.latents.size(0), frames = ops::ceil_div(in.latents.size(2), config_.patch_size[0]);
  if (!in.timestep.defined() || in.timestep.dim() != 1 || in.timestep.size(0) != batch) {
    refuse("timestep", in.timestep.defined() ? in.timestep : at::empty({0}), concat("[", batch, "]"));
  }
  if (!in.fps.defined() || in.fps.dim() != 1 || in.fps.size(0) < 1 || batch % in.fps.size(0) != 0) {
    refuse("fps", in.fps.defined() ? in.fps : at::empty({0}), concat("[", batch, "]"));
  }
  if (in.frame_mask.defined() && in.frame_mask.sizes() != at::IntArrayRef({batch, frames})) {
    refuse("frame_mask", in.frame_mask, concat("[", batch, ", ", frames, "]"));
  }
  if (!in.embedded_caption && !in.caption.defined())
    throw UsageError("STDiT3: no caption", "give caption or embedded_caption");
  if (!(in.height > 0) || !(in.width > 0)) {
    throw UsageError(concat("STDiT3: a clip of ", in.height, " x ", in.width, " pixels"),
                     "height and width must be above zero");
  }
  if (in.valid_depth && (*in.valid_depth < 0 || *in.valid_depth > config_.depth)) {
    throw UsageError(concat("STDiT3: valid_depth ", *in.valid_depth), concat("it goes from 0 to ", config_.depth));
  }
}

Caption STDiT3::embed_caption(const Run& run, const Tensor& caption, const Tensor& mask) const {
  const auto options = run.weights->get(x_embedder_.weight()).options();
  if (config_.skip_y_embedder) {
    if (!mask.defined() || mask.dim() != 1)
      throw UsageError("STDiT3: a packed caption without its lengths", "give them as caption_mask");
    const Tensor lengths = mask.to(at::kCPU, at::kLong).contiguous();
    const auto* begin = lengths.const_data_ptr<int64_t>();
    return {caption.to(options.device(), options.dtype()).reshape({1, -1, config_.hidden_size}),
            {begin, begin + lengths.numel()},
            {}};
  }
  if (caption.size(-1) != config_.caption_channels) {
    throw UsageError(concat("STDiT3: a caption of width ", caption.size(-1)),
                     concat("it takes ", config_.caption_channels, " channels"));
  }
  open_sora::PackedCaption packed = open_sora::pack_caption(caption, mask);
  return {y_embedder_(run, packed.tokens.to(options.device(), c10::typeMetaToScalarType(options.dtype()))).unsqueeze(0),
          std::move(packed.lengths),
          {}};
}

Caption STDiT3::with_keys_values(const Run& run, Caption caption) const {
  caption.keys_values.clear();
  for (const Block& b : blocks_) caption.keys_values.push_back(b.caption_keys_values(run, caption.tokens));
  return caption;
}

Tensor STDiT3::time_modulation(const Run& run, const Tensor& embed) const {
  return t_block_(run, ops::activate(embed, ops::Activation::silu)).unflatten(1, {6, -1});
}

Conditioning STDiT3::condition(const Run& run, const STDiT3Inputs& in, const Extent& extent, const Tensor& like) const {
  const int64_t batch = in.latents.size(0);
  const auto dtype = like.scalar_type();
  Conditioning c;
  c.extent = extent;
  c.caption = in.embedded_caption ? *in.embedded_caption : embed_caption(run, in.caption, in.caption_mask);
  if (static_cast<int64_t>(c.caption.lengths.size()) != batch) {
    throw UsageError(concat("STDiT3: ", c.caption.lengths.size(), " captions for a batch of ", batch));
  }
  // A product of one row has other last bits than that row among others: a single sample comes twice.
  const int64_t rows = std::max<int64_t>(batch, 2), times = rows / batch;
  const auto of_batch = [&](const Tensor& t) { return t.narrow(0, 0, batch); };
  const Tensor fps = fps_embedder_(run, in.fps.to(like.device()).repeat({rows / in.fps.size(0)}), dtype);
  const Tensor timestep = in.timestep.to(like.device(), dtype).repeat({times});
  const Tensor embed = t_embedder_(run, timestep, dtype) + fps;
  c.embed = of_batch(embed);
  c.time = of_batch(time_modulation(run, embed));
  // With every frame being denoised both times are the same work: most calls take one.
  if (in.frame_mask.defined() && !in.frame_mask.all().item<bool>()) {
    c.frame_mask = in.frame_mask.to(like.device(), at::kBool).view({batch, extent.frames, 1, 1});
    const Tensor embed_zero = t_embedder_(run, at::zeros_like(timestep), dtype) + fps;
    c.embed_zero = of_batch(embed_zero);
    c.time_zero = of_batch(time_modulation(run, embed_zero));
  }
  c.rotary = open_sora::rotary_table(run.weights->get(rope_freqs_).to(like.device(), dtype), extent.frames);
  return c;
}

Tensor STDiT3::forward(const Run& run, const STDiT3Inputs& in) const {
  check(in);
  run.weights->expect(order_);
  const auto options = run.weights->get(x_embedder_.weight()).options();
  const Tensor latents = in.latents.to(options.device(), c10::typeMetaToScalarType(options.dtype()));
  Tensor x = x_embedder_(run, latents);
  const Extent extent{.frames = x.size(1), .rows = x.size(2)};
  const int64_t h = ops::ceil_div(latents.size(3), config_.patch_size[1]),
                w = ops::ceil_div(latents.size(4), config_.patch_size[2]);
  const double scale = std::sqrt(in.height * in.width) / config_.input_sq_size;
  const double base = round_half_even(std::sqrt(static_cast<double>(extent.rows)));
  x = x + open_sora::position_table(h, w, config_.hidden_size, scale, base, options).unsqueeze(1);
  // A layout cuts one home axis and leaves the other alone.
  x = run.layout->local(run.layout->local(x, Axis::rows, 2), Axis::frames, 1);

  auto c = std::make_shared<const Conditioning>(condition(run, in, extent, latents));
  Stack blocks{.path = "blocks", .blocks = static_cast<int>(2 * in.valid_depth.value_or(config_.depth))};
  blocks.block = [this, c](const Run& r, int index, Streams streams) -> Streams {
    return {block(index)(r, streams[0], *c)};
  };
  blocks.probe = [this, c](const Run& r, std::string_view probe, const Streams& streams) -> Tensor {
    if (probe == "modulated_input") return block(0).modulated_input(r, streams[0], *c);
    if (probe == "time_embed") return c->embed;
    return {};
  };
  blocks.extent = extent;
  blocks.conditioning = c->read_by_blocks();
  Streams streams;  // a braced list would hold the rows while blocks run
  streams.push_back(std::move(x));
  x = stack(run, blocks, std::move(streams))[0];

  // The last layer works row by row, so patches are gathered, which are narrower than the model.
  Tensor rows = final_layer_(run, x, *c);
  rows = run.layout->whole(run.layout->whole(rows, Axis::frames, 1, extent), Axis::rows, 2, extent);
  const Tensor out = ops::unpatchify(rows, config_.patch_size, latents.sizes().slice(2));
  return out.to(out.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

}  // namespace kinora::models
