#include "kinora/video/estimate.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "kinora/ops/conv.h"
#include "kinora/ops/tiles.h"

namespace kinora::video {
namespace {

using models::VideoVaeConfig;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// What convolutions take beside their operands, in values of the model's dtype for each position.
struct Convolutions {
  double wide = 1;     ///< elements of the model's dtype that stand for one of theirs (ops/conv.h)
  bool tiles = false;  ///< where they multiply tiles, a result is there three times

  /// They work on copies whose channels fill whole vectors; an input of another dtype is converted beforehand.
  double result(int64_t channels) const { return wide * static_cast<double>((channels + 15) / 16 * 16); }
  double input(int64_t channels) const {
    return result(channels) + (wide > 1 ? wide * static_cast<double>(channels) : 0);
  }
  /// One of them at its peak, its input not counted.
  double peak(int64_t in, int64_t out) const {
    return std::max(input(in) + result(out), tiles ? 3.0 * static_cast<double>(out) : 0);
  }
};

/// Values for each position that a residual block of these widths holds at its peak: in the shortcut and in the first
/// convolution the block's input, the normalised one and their copies; behind them the norms before and after the
/// activation.
double shortcut(int64_t in, int64_t out, const Convolutions& conv) {
  return in == out ? 0 : 2 * static_cast<double>(in) + conv.peak(in, out);
}
double res_block(int64_t in, int64_t out, const Convolutions& conv) {
  const auto a = static_cast<double>(in), b = static_cast<double>(out);
  return std::max({shortcut(in, out, conv), a + b + conv.peak(in, out), 4 * b, 2 * b + conv.peak(out, out), 3 * a});
}

/// The 2-D half: `pictures` at a time.
double spatial_peak(const VideoVaeConfig& vae, const LatentSize& z, int64_t pictures, uint64_t element_bytes,
                    const Convolutions& conv) {
  const auto& channels = vae.spatial.block_out_channels;
  const auto batch = static_cast<double>(pictures);
  // In bfloat16 a shortcut sums up in float32 the pictures that threads are at.
  const double sums = element_bytes < 4 && conv.wide == 1
                          ? 2.0 * static_cast<double>(std::min<int64_t>(at::get_num_threads(), pictures))
                          : 0;
  double most = 0;
  int64_t entering = channels.back();
  double pixels = static_cast<double>(z.height * z.width);
  if (vae.spatial.mid_block_add_attention) most = 7 * static_cast<double>(entering) * pixels * batch;
  for (size_t i = channels.size(); i-- > 0;) {
    const int64_t width = channels[i];
    most = std::max(
        {most, res_block(entering, width, conv) * pixels * batch, res_block(width, width, conv) * pixels * batch});
    if (entering != width)
      most = std::max(most, (shortcut(entering, width, conv) * batch + sums * conv.result(width)) * pixels);
    // The upsampled input, its copy and the result, at four times the pixels.
    if (i > 0) most = std::max(most, (static_cast<double>(width) + conv.peak(width, width)) * 4 * pixels * batch);
    entering = width;
    pixels *= 4;
  }
  return most;
}

/// The temporal half: a chunk of `frames`. Causal convolutions pad a copy with two frames in front.
double temporal_peak(const VideoVaeConfig& vae, const LatentSize& z, int64_t frames, const Convolutions& conv) {
  const auto& t = vae.temporal;
  const size_t levels = t.channel_multipliers.size();
  const double area = static_cast<double>(z.height * z.width);
  double time = static_cast<double>(ceil_div(frames, t.downscale()));
  double most = 0;
  for (size_t i = levels; i-- > 0;) {
    const int64_t in = t.width(std::min(i + 1, levels - 1)), out = t.width(i);
    const auto widest = static_cast<double>(std::max(in, out));
    most = std::max(most, (res_block(in, out, conv) * time + widest * (time + 2) + widest * 2) * area);
    if (i > 0 && t.temporal_downsample[i - 1]) {
      // Twice the channels, and once more in order.
      most = std::max(most, (2 * (time + 2) + 5 * time) * static_cast<double>(out) * area);
      time *= 2;
    }
  }
  return most;
}

/// Values alive for each row and channel of a block at its widest, measured with the ledger at STDiT3-XL/2's width: the
/// MLP holds its input and sum, the norm and the hidden layer before and after the activation; attention along time its
/// input and norm, queries, keys and values as the linear layer left them and once more in order, and the result.
double block_peak(const models::STDiT3Config& c, double exchanged) {
  return std::max(5.0 + 2.0 * c.mlp_ratio, 9.0 + exchanged);
}

/// Values for each row around the blocks, patches times: the positions are added to the embedded patches, and the last
/// layer's norm and outputs stand beside the rows; where frames are given, two norms and their choice.
double around_blocks(const models::STDiT3Config& c, bool is_given) {
  return (is_given ? 4.0 : 2.0) * static_cast<double>(c.hidden_size) +
         static_cast<double>(c.patch_volume() * c.out_channels());
}

/// Of the denoiser's rows those that one rank has at most, as a share of all, and what an attention exchanges for each
/// of them, sent and received: DSP its input or result, Ulysses queries, keys and values, and two of them in order; a
/// ring keys and values, where there are more than two ranks the next ones too, queries in order, and in float32 what is
/// merged. Megatron's gathers the rows of all.
struct OfARank {
  double rows = 1, branches = 1, exchanged = 0;
};
OfARank of_a_rank(const Spread& spread, uint64_t element_bytes) {
  const parallel::Arrangement& a = spread.arrangement;
  OfARank of{.branches = 1.0 / a.branches};
  if (a.ranks == 1) return of;
  const int64_t whole = spread.extent.of(a.home);
  of.rows = static_cast<double>(ceil_div(whole, a.ranks)) / static_cast<double>(whole);
  if (a.layout == "megatron") {
    of.exchanged = 2.0 / of.rows;
  } else if (a.layout.starts_with("dsp")) {
    of.exchanged = 4;
  } else if (a.layout == "ulysses") {
    of.exchanged = 8;
  } else {
    of.exchanged = (a.ranks > 2 ? 7 : 5) + 16.0 / static_cast<double>(element_bytes);
  }
  return of;
}

uint64_t bytes_of(double elements, uint64_t element_bytes) {
  return static_cast<uint64_t>(elements * static_cast<double>(element_bytes));
}

/// What LibTorch and oneDNN take on a first call, behind every ledger: thread pools, compiled kernels, code that is paged in.
constexpr uint64_t kRuntime = uint64_t{60} << 20;

}  // namespace

uint64_t MemoryEstimate::text_peak() const { return text_weights + text + kRuntime; }
uint64_t MemoryEstimate::denoise_peak() const { return transformer_weights + denoise + kRuntime; }
uint64_t MemoryEstimate::decode_peak() const { return vae_weights + decode + kRuntime; }

std::array<uint64_t, 3> MemoryEstimate::stage_peaks(bool one_by_one) const {
  if (one_by_one) return {output + text_peak(), output + denoise_peak(), output + decode_peak()};
  // Parts are loaded when they are first needed.
  const uint64_t before = text_weights + (vae_first ? vae_weights : 0);
  return {output + before + text_peak() - text_weights, output + before + denoise_peak(),
          output + text_weights + transformer_weights + decode_peak()};
}

LatentSize latent_size(const VideoVaeConfig& vae, const Plan& plan) {
  const int64_t factor = vae.temporal.downscale();
  const int64_t chunk = vae.micro_frame_size > 0 ? vae.micro_frame_size : plan.num_frames;
  const int64_t whole = plan.num_frames / chunk, rest = plan.num_frames % chunk;
  return {whole * ceil_div(chunk, factor) + ceil_div(rest, factor), plan.height / vae.spatial.downscale(),
          plan.width / vae.spatial.downscale()};
}

MemoryEstimate estimate_memory(const ModelSizes& sizes, const Plan& plan) {
  const LatentSize z = latent_size(sizes.vae, plan);
  const auto& model = sizes.transformer;
  const OfARank of = of_a_rank(plan.spread, sizes.element_bytes);
  const auto batch = static_cast<double>(plan.batch), branches = (plan.is_guided() ? 2.0 : 1.0) * of.branches,
             branches_at_once = plan.branches_apart ? 1.0 : branches;
  const auto width = static_cast<double>(model.hidden_size);
  const double patches =
      static_cast<double>(ceil_div(z.height, model.patch_size[1]) * ceil_div(z.width, model.patch_size[2]));
  const int64_t frames = ceil_div(z.frames, model.patch_size[0]);
  const double rows = batch * branches_at_once * static_cast<double>(frames) * patches * of.rows;
  const auto tokens = static_cast<double>(model.model_max_length);
  // Current latents, and those of every branch in float32 and in the model's dtype.
  const double latents = 4.0 * (1.0 + 2.0 * branches) * batch * static_cast<double>(z.elements(model.in_channels));

  MemoryEstimate e;
  const double captions = batch * branches * tokens * width * (1.0 + 4.0 * static_cast<double>(model.depth));
  e.caches = static_cast<uint64_t>(rows) * static_cast<uint64_t>(plan.kept_row_bytes);
  if (plan.cache_memory > 0) e.caches = std::min(e.caches, plan.cache_memory);
  e.blocks = bytes_of(rows * width * block_peak(model, of.exchanged), sizes.element_bytes);
  if (plan.pieces.budget > 0) {
    e.blocks = std::max(bytes_of(rows * around_blocks(model, plan.is_given()), sizes.element_bytes),
                        static_cast<uint64_t>(plan.pieces.bytes));
  }
  const double held = rows * width * static_cast<double>(plan.held_values);
  e.denoise = e.blocks + bytes_of(captions + held, sizes.element_bytes) + static_cast<uint64_t>(latents) + e.caches;

  const int64_t chunk =
      sizes.vae.micro_frame_size > 0 ? std::min(sizes.vae.micro_frame_size, plan.num_frames) : plan.num_frames;
  const int64_t at_once = std::min(sizes.vae.micro_batch_size, chunk);
  const double between =
      2.0 * static_cast<double>(sizes.vae.temporal.in_out_channels * (chunk + 4) * z.height * z.width);
  Convolutions conv;
  if (sizes.device.is_cpu()) {
    const at::ScalarType dtype = ops::conv_dtype(sizes.dtype());
    conv.wide = static_cast<double>(c10::elementSize(dtype)) / static_cast<double>(sizes.element_bytes);
    conv.tiles = ops::multiplies_tiles(dtype);
  }
  const double peak = std::max(temporal_peak(sizes.vae, z, chunk, conv),
                               spatial_peak(sizes.vae, z, at_once, sizes.element_bytes, conv));
  e.decode = bytes_of(peak + between, sizes.element_bytes) +
             static_cast<uint64_t>(4.0 * batch * static_cast<double>(z.elements(model.in_channels)));

  const auto& t5 = sizes.text_encoder;
  const double inner = static_cast<double>(t5.num_heads * t5.d_kv);
  e.text = bytes_of(tokens * (4.0 * static_cast<double>(t5.d_model) + 3.0 * static_cast<double>(t5.d_ff) + 4.0 * inner),
                    sizes.element_bytes) +
           static_cast<uint64_t>(3.0 * 4.0 * tokens * tokens * static_cast<double>(t5.num_heads));

  e.text_weights = std::min(sizes.text_bytes, plan.weights.text_encoder.value_or(sizes.text_bytes));
  e.transformer_weights = std::min(sizes.transformer_bytes, plan.weights.transformer.value_or(sizes.transformer_bytes));
  e.vae_weights = sizes.vae_bytes;
  e.vae_first = plan.is_given();
  const uint64_t frame = 3 * static_cast<uint64_t>(plan.height) * static_cast<uint64_t>(plan.width);
  const auto clips = static_cast<uint64_t>(std::max<size_t>(1, plan.prompts.size()));
  const auto all = static_cast<uint64_t>(plan.total_frames());
  e.output = frame * (plan.keeps_clips ? clips * all : plan.collects_frames ? all : static_cast<uint64_t>(at_once));
  return e;
}

}  // namespace kinora::video
