#include "kinora/models/open_sora/temporal_vae.h"

#include "kinora/base/error.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/residual.h"

namespace kinora::models {
namespace {

using open_sora::CausalConv3d;
using open_sora::ResBlock;
using ops::Activation;

constexpr double kEps = 1e-5;
constexpr int64_t kMaxWidth = 1 << 14;
const std::vector<int64_t> kCube{3, 3, 3}, kPoint{1, 1, 1};

void check_not_cancelled(const Run& run) {
  if (run.cancel.stop_requested()) throw CancelledError();
}

/// Zeros that fill `frames` up to whole latent frames.
int64_t front_padding(int64_t frames, int64_t downscale) { return (downscale - frames % downscale) % downscale; }

std::vector<ResBlock> res_blocks(const Scope& scope, int64_t in, int64_t out, const TemporalVaeConfig& config) {
  std::vector<ResBlock> blocks;
  for (int64_t i = 0; i < config.num_res_blocks; ++i)
    blocks.emplace_back(scope / i, i == 0 ? in : out, out, config.num_groups);
  return blocks;
}

Tensor through(const Run& run, const std::vector<ResBlock>& blocks, Tensor x) {
  for (const ResBlock& block : blocks) x = block(run, std::move(x));
  return x;
}

/// Depth to time: channel c * 2 + s of frame t becomes channel c of frame t * 2 + s.
Tensor double_frames(const Tensor& x) {
  return x.unflatten(1, {-1, 2})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({x.size(0), x.size(1) / 2, 2 * x.size(2), x.size(3), x.size(4)});
}

}  // namespace

int64_t TemporalVaeConfig::downscale() const {
  int64_t factor = 1;
  for (const bool halves : temporal_downsample) factor *= halves ? 2 : 1;
  return factor;
}

TemporalVaeConfig TemporalVaeConfig::from_json(const Json& json, const std::string& what) {
  const JsonObject object(json, what);
  TemporalVaeConfig c;
  c.in_out_channels = object.int_or("in_out_channels", c.in_out_channels, 1, kMaxWidth);
  c.latent_embed_dim = object.int_or("latent_embed_dim", c.latent_embed_dim, 1, kMaxWidth);
  c.embed_dim = object.int_or("embed_dim", c.embed_dim, 1, kMaxWidth);
  c.filters = object.int_or("filters", c.filters, 1, kMaxWidth);
  c.num_res_blocks = object.int_or("num_res_blocks", c.num_res_blocks, 1, 64);
  c.channel_multipliers = object.ints_or("channel_multipliers", c.channel_multipliers, 1, 64);
  c.num_groups = object.int_or("num_groups", c.num_groups, 1, kMaxWidth);
  if (const Json* flags = object.find("temporal_downsample")) {
    c.temporal_downsample.clear();
    for (const Json& flag : flags->is_array() ? *flags : Json::array({Json()})) {
      if (!flag.is_boolean()) throw DataError(concat(what, ": temporal_downsample is a list of true and false"));
      c.temporal_downsample.push_back(flag.get<bool>());
    }
  }
  if (c.channel_multipliers.empty() || c.channel_multipliers.size() > 16 ||
      c.temporal_downsample.size() + 1 != c.channel_multipliers.size()) {
    throw DataError(concat(what, ": ", c.channel_multipliers.size(), " channel_multipliers and ",
                           c.temporal_downsample.size(), " temporal_downsample flags"),
                    "Between two levels stands one flag: give one multiplier more than flags.");
  }
  for (size_t i = 0; i < c.channel_multipliers.size(); ++i) {
    if (c.width(i) % c.num_groups != 0 || c.filters % c.num_groups != 0) {
      throw DataError(concat(what, ": ", c.width(i), " channels do not divide into ", c.num_groups, " norm groups"));
    }
  }
  object.ignore({"type", "from_pretrained", "cache_dir"});
  object.warn_unknown();
  return c;
}

Json TemporalVaeConfig::to_json() const {
  return {{"in_out_channels", in_out_channels},
          {"latent_embed_dim", latent_embed_dim},
          {"embed_dim", embed_dim},
          {"filters", filters},
          {"num_res_blocks", num_res_blocks},
          {"channel_multipliers", channel_multipliers},
          {"num_groups", num_groups},
          {"temporal_downsample", temporal_downsample},
          {"type", "VAE_Temporal"}};
}

namespace open_sora {

CausalConv3d::CausalConv3d(const Scope& scope, int64_t in, int64_t out, std::vector<int64_t> kernel, bool bias,
                           std::vector<int64_t> stride)
    : kernel_(std::move(kernel)), stride_(std::move(stride)) {
  KINORA_ASSERT(kernel_.size() == 3 && stride_.size() == 3);
  const Scope place = scope / "conv";
  weight_ = place.param("weight", {out, in, kernel_[0], kernel_[1], kernel_[2]}, {.init = init::kaiming_uniform});
  if (bias) bias_ = place.param("bias", {out}, {.init = init::zeros});
}

Tensor CausalConv3d::operator()(const Run& run, const Tensor& x) const {
  const int64_t front = (kernel_[0] - 1) + (1 - stride_[0]);
  // A window never starts later than `stride` before the end, so zeros behind as many as in front are out of every
  // window's reach when the count of windows stays the same: then the convolution pads by itself and x is not copied.
  const auto windows = [&](int64_t padding) { return (x.size(2) + padding - kernel_[0]) / stride_[0]; };
  const bool symmetric = front <= 0 || windows(2 * front) == windows(front);
  const Tensor padded = symmetric ? x : at::constant_pad_nd(x, {0, 0, 0, 0, front, 0});
  const std::vector<int64_t> padding{symmetric ? std::max<int64_t>(front, 0) : 0, kernel_[1] / 2, kernel_[2] / 2};
  const std::optional<Tensor> bias = bias_ ? std::optional<Tensor>(run.weights->get(*bias_)) : std::nullopt;
  return ops::conv(padded, run.weights->get(weight_), bias, stride_, padding);
}

ResBlock::ResBlock(const Scope& scope, int64_t in, int64_t out, int64_t groups)
    : norm1_(scope / "norm1", groups, in, kEps),
      conv1_(scope / "conv1", in, out, kCube, false),
      norm2_(scope / "norm2", groups, out, kEps),
      conv2_(scope / "conv2", out, out, kCube, false) {
  if (in != out) shortcut_.emplace(scope / "conv3", in, out, kPoint, false);
}

Tensor ResBlock::operator()(const Run& run, Tensor x) const {
  Tensor h = norm1_(run, x, Activation::silu);
  if (shortcut_) x = (*shortcut_)(run, x);
  h = conv1_(run, h);
  h = norm2_(run, h, Activation::silu);
  h = conv2_(run, h);
  return ops::add_residual(x, h);
}

}  // namespace open_sora

TemporalVae::Half TemporalVae::make_encoder(const Scope& scope, const TemporalVaeConfig& config) {
  const size_t count = config.channel_multipliers.size();
  const int64_t last = config.width(count - 1);
  Half half{.first = CausalConv3d(scope / "conv_in", config.in_out_channels, config.filters, kCube, false),
            .middle = res_blocks(scope / "res_blocks", last, last, config),
            .levels = {},
            .norm = GroupNorm(scope / "norm1", config.num_groups, last, kEps),
            .last = CausalConv3d(scope / "conv2", last, 2 * config.latent_embed_dim, kPoint)};
  int64_t width = config.filters;
  for (size_t i = 0; i < count; ++i) {
    const auto index = static_cast<int64_t>(i);
    Level level{.blocks = res_blocks(scope / "block_res_blocks" / index, width, config.width(i), config),
                .resample = {}};
    width = config.width(i);
    if (i + 1 < count && config.temporal_downsample[i]) {
      level.resample.emplace(scope / "conv_blocks" / index, width, width, kCube, true, std::vector<int64_t>{2, 1, 1});
    }
    half.levels.push_back(std::move(level));
  }
  return half;
}

TemporalVae::Half TemporalVae::make_decoder(const Scope& scope, const TemporalVaeConfig& config) {
  const size_t count = config.channel_multipliers.size();
  const int64_t top = config.width(count - 1);
  Half half{.first = CausalConv3d(scope / "conv1", config.latent_embed_dim, top, kCube),
            .middle = res_blocks(scope / "res_blocks", top, top, config),
            .levels = {},
            .norm = GroupNorm(scope / "norm1", config.num_groups, config.width(0), kEps),
            .last = CausalConv3d(scope / "conv_out", config.width(0), config.in_out_channels, kCube)};
  for (size_t i = 0; i < count; ++i) {
    const auto index = static_cast<int64_t>(i);
    const int64_t in = config.width(std::min(i + 1, count - 1)), out = config.width(i);
    Level level{.blocks = res_blocks(scope / "block_res_blocks" / index, in, out, config), .resample = {}};
    if (i > 0 && config.temporal_downsample[i - 1])
      level.resample.emplace(scope / "conv_blocks" / (index - 1), out, 2 * out, kCube);
    half.levels.push_back(std::move(level));
  }
  return half;
}

TemporalVae::TemporalVae(const Scope& scope, const TemporalVaeConfig& config)
    : config_(config),
      encoder_(make_encoder(scope / "encoder", config)),
      decoder_(make_decoder(scope / "decoder", config)),
      quant_conv_(scope / "quant_conv", 2 * config.latent_embed_dim, 2 * config.embed_dim, kPoint),
      post_quant_conv_(scope / "post_quant_conv", config.embed_dim, config.latent_embed_dim, kPoint) {}

int64_t TemporalVae::latent_frames(int64_t frames) const {
  const int64_t factor = config_.downscale();
  return (frames + factor - 1) / factor;
}

DiagonalGaussian TemporalVae::encode(const Run& run, const Tensor& x) const {
  if (x.dim() != 5 || x.size(1) != config_.in_out_channels || x.numel() == 0) {
    throw UsageError(concat("a clip of shape ", x.sizes(), " cannot enter the temporal autoencoder"),
                     concat("It takes [B, ", config_.in_out_channels, ", T, H, W]."));
  }
  const int64_t front = front_padding(x.size(2), config_.downscale());
  Tensor h = encoder_.first(run, front == 0 ? x : at::constant_pad_nd(x, {0, 0, 0, 0, front, 0}));
  for (const Level& level : encoder_.levels) {
    check_not_cancelled(run);
    h = through(run, level.blocks, std::move(h));
    if (level.resample) h = (*level.resample)(run, h);
  }
  h = through(run, encoder_.middle, std::move(h));
  h = encoder_.norm(run, h, Activation::silu);
  return {quant_conv_(run, encoder_.last(run, h))};
}

Tensor TemporalVae::decode(const Run& run, const Tensor& z, int64_t num_frames) const {
  if (z.dim() != 5 || z.size(1) != config_.embed_dim || z.numel() == 0 || num_frames < 1 ||
      z.size(2) != latent_frames(num_frames)) {
    throw UsageError(concat("latents of shape ", z.sizes(), " do not hold a clip of ", num_frames, " frames"),
                     concat("The temporal autoencoder takes [B, ", config_.embed_dim, ", frames / ",
                            config_.downscale(), " (rounded up), H, W]."));
  }
  Tensor h = decoder_.first(run, post_quant_conv_(run, z));
  h = through(run, decoder_.middle, std::move(h));
  for (size_t i = decoder_.levels.size(); i-- > 0;) {
    check_not_cancelled(run);
    h = through(run, decoder_.levels[i].blocks, std::move(h));
    if (decoder_.levels[i].resample) h = double_frames((*decoder_.levels[i].resample)(run, h));
  }
  h = decoder_.norm(run, h, Activation::silu);
  h = decoder_.last(run, h);
  const int64_t front = front_padding(num_frames, config_.downscale());
  return h.narrow(2, front, h.size(2) - front);
}

}  // namespace kinora::models
