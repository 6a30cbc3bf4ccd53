#include "kinora/models/vae/autoencoder_kl.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/models/vae/tiles.h"

namespace kinora::models {
namespace {

constexpr int64_t kMaxWidth = 1 << 14;

kl::Widths widths_of(const AutoencoderKlConfig& c) {
  return {c.block_out_channels, c.layers_per_block, c.norm_num_groups, c.mid_block_add_attention};
}

void check_blocks(const JsonObject& object, const char* key, const char* known, size_t levels) {
  if (!object.has(key)) return;
  const std::vector<std::string> types = object.require_strings(key);
  if (types.size() != levels)
    throw DataError(concat(object.what(), ": ", key, " and block_out_channels differ in length"));
  for (const std::string& type : types) {
    if (type != known)
      throw DataError(concat(object.what(), ": ", key, " has '", type, "'; only ", known, " is known"));
  }
}

Tensor by_parts(const Run& run, const Tensor& x, int64_t part, const std::function<Tensor(const Tensor&)>& work) {
  if (part < 1 || part >= x.size(0)) part = std::max<int64_t>(x.size(0), 1);
  std::vector<Tensor> done;
  for (int64_t begin = 0; begin < x.size(0); begin += part) {
    if (run.cancel.stop_requested()) throw CancelledError();
    done.push_back(work(x.narrow(0, begin, std::min(part, x.size(0) - begin))));
  }
  return done.size() == 1 ? done[0] : at::cat(done);
}

void check(const Tensor& x, int64_t channels, int64_t least, const char* what) {
  if (x.dim() != 4 || x.size(1) != channels || x.size(0) < 1 || x.size(2) < least || x.size(3) < least) {
    throw UsageError(concat(what, " of shape ", x.sizes(), " cannot enter the autoencoder"),
                     concat("It takes [B, ", channels, ", H, W] with H and W at least ", least, "."));
  }
}

struct TileSizes {
  int64_t sample, latent;
};

TileSizes tile_sizes(const AutoencoderKlConfig& config, const KlParts& parts) {
  const int64_t sample = parts.tile_sample_size > 0 ? parts.tile_sample_size : config.sample_size;
  return {sample, parts.tile_latent_size > 0 ? parts.tile_latent_size : sample / config.downscale()};
}

/// Rounded down, as the reference's int() does.
int64_t part_of(int64_t size, double factor) { return static_cast<int64_t>(static_cast<double>(size) * factor); }

}  // namespace

AutoencoderKlConfig AutoencoderKlConfig::sdxl() {
  AutoencoderKlConfig config;
  config.block_out_channels = {128, 256, 512, 512};
  config.layers_per_block = 2;
  config.sample_size = 512;
  return config;
}

AutoencoderKlConfig AutoencoderKlConfig::from_json(const Json& json, const std::string& what) {
  return from_json(json, what, {});
}

AutoencoderKlConfig AutoencoderKlConfig::from_json(const Json& json, const std::string& what,
                                                   AutoencoderKlConfig base) {
  const JsonObject object(json, what);
  AutoencoderKlConfig c = std::move(base);
  c.in_channels = object.int_or("in_channels", c.in_channels, 1, kMaxWidth);
  c.out_channels = object.int_or("out_channels", c.out_channels, 1, kMaxWidth);
  c.latent_channels = object.int_or("latent_channels", c.latent_channels, 1, kMaxWidth);
  c.block_out_channels = object.ints_or("block_out_channels", c.block_out_channels, 1, kMaxWidth);
  c.layers_per_block = object.int_or("layers_per_block", c.layers_per_block, 1, 64);
  c.norm_num_groups = object.int_or("norm_num_groups", c.norm_num_groups, 1, kMaxWidth);
  const Json* size = object.find("sample_size");
  if (size && size->is_array()) {
    const std::vector<int64_t> sizes = object.require_ints("sample_size", 1, 1 << 20);
    if (sizes.empty()) throw DataError(concat(what, ": sample_size is empty"));
    c.sample_size = sizes[0];
  } else {
    c.sample_size = object.int_or("sample_size", c.sample_size, 1, 1 << 20);
  }
  c.use_quant_conv = object.bool_or("use_quant_conv", c.use_quant_conv);
  c.use_post_quant_conv = object.bool_or("use_post_quant_conv", c.use_post_quant_conv);
  c.mid_block_add_attention = object.bool_or("mid_block_add_attention", c.mid_block_add_attention);
  c.scaling_factor = object.number_or("scaling_factor", c.scaling_factor);
  c.shift_factor = object.number_or("shift_factor", c.shift_factor);
  if (c.block_out_channels.empty() || c.block_out_channels.size() > 16) {
    throw DataError(
        concat(what, ": block_out_channels has ", c.block_out_channels.size(), " levels; 1 to 16 are possible"));
  }
  for (const int64_t width : c.block_out_channels) {
    if (width % c.norm_num_groups != 0) {
      throw DataError(concat(what, ": ", width, " channels do not divide into ", c.norm_num_groups, " norm groups"));
    }
  }
  check_blocks(object, "down_block_types", "DownEncoderBlock2D", c.block_out_channels.size());
  check_blocks(object, "up_block_types", "UpDecoderBlock2D", c.block_out_channels.size());
  const std::string activation = object.string_or("act_fn", "silu");
  if (activation != "silu" && activation != "swish")
    throw DataError(concat(what, ": act_fn '", activation, "' is not known; silu is"));
  object.ignore({"force_upcast", "latents_mean", "latents_std", "micro_batch_size", "from_pretrained", "subfolder",
                 "type", "cache_dir", "local_files_only"});
  object.warn_unknown();
  return c;
}

Json AutoencoderKlConfig::to_json() const {
  const size_t levels = block_out_channels.size();
  return {{"_class_name", "AutoencoderKL"},
          {"in_channels", in_channels},
          {"out_channels", out_channels},
          {"latent_channels", latent_channels},
          {"down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D")},
          {"up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D")},
          {"block_out_channels", block_out_channels},
          {"layers_per_block", layers_per_block},
          {"norm_num_groups", norm_num_groups},
          {"act_fn", "silu"},
          {"sample_size", sample_size},
          {"use_quant_conv", use_quant_conv},
          {"use_post_quant_conv", use_post_quant_conv},
          {"mid_block_add_attention", mid_block_add_attention},
          {"scaling_factor", scaling_factor},
          {"shift_factor", shift_factor}};
}

double decode_flops(const AutoencoderKlConfig& config, int64_t height, int64_t width, int64_t batch) {
  double pixels = static_cast<double>(height * width), flops = 0;
  const auto conv = [&](int64_t side, int64_t in, int64_t out) {
    flops += 2 * static_cast<double>(side * side * in * out) * pixels;
  };
  const auto resnet = [&](int64_t in, int64_t out) {
    conv(3, in, out), conv(3, out, out);
    if (in != out) conv(1, in, out);
  };
  const std::vector<int64_t>& widths = config.block_out_channels;
  int64_t channels = widths.back();
  if (config.use_post_quant_conv) conv(1, config.latent_channels, config.latent_channels);
  conv(3, config.latent_channels, channels);
  for (int i = 0; i < 2; ++i) resnet(channels, channels);
  if (config.mid_block_add_attention) {
    for (int i = 0; i < 4; ++i) conv(1, channels, channels);
    flops += 4 * pixels * pixels * static_cast<double>(channels);
  }
  for (size_t level = widths.size(); level-- > 0;) {
    for (int64_t i = 0; i <= config.layers_per_block; ++i)
      resnet(std::exchange(channels, widths[level]), widths[level]);
    if (level == 0) break;
    pixels *= 4;
    conv(3, channels, channels);
  }
  conv(3, channels, config.out_channels);
  return static_cast<double>(batch) * flops;
}

AutoencoderKl::AutoencoderKl(const Scope& scope, const AutoencoderKlConfig& config)
    : config_(config),
      encoder_(scope / "encoder", config.in_channels, config.latent_channels, widths_of(config)),
      decoder_(scope / "decoder", config.latent_channels, config.out_channels, widths_of(config)) {
  const std::vector<int64_t> point{1, 1};
  if (config.use_quant_conv)
    quant_conv_.emplace(scope / "quant_conv", 2 * config.latent_channels, 2 * config.latent_channels, point);
  if (config.use_post_quant_conv)
    post_quant_conv_.emplace(scope / "post_quant_conv", config.latent_channels, config.latent_channels, point);
}

DiagonalGaussian AutoencoderKl::encode(const Run& run, const Tensor& x, const KlParts& parts) const {
  check(x, config_.in_channels, config_.downscale(), "A picture");
  return {by_parts(run, x, parts.micro_batch, [&](const Tensor& part) { return encode_part(run, part, parts); })};
}

Tensor AutoencoderKl::decode(const Run& run, const Tensor& z, const KlParts& parts) const {
  check(z, config_.latent_channels, 1, "Latents");
  return by_parts(run, z, parts.micro_batch, [&](const Tensor& part) { return decode_part(run, part, parts); });
}

Tensor AutoencoderKl::encode_part(const Run& run, const Tensor& x, const KlParts& parts) const {
  const auto whole = [&](const Tensor& picture) {
    if (run.cancel.stop_requested()) throw CancelledError();
    const Tensor moments = encoder_(run, picture);
    return quant_conv_ ? (*quant_conv_)(run, moments) : moments;
  };
  const auto [sample, latent] = tile_sizes(config_, parts);
  if (!parts.tiling || (x.size(2) <= sample && x.size(3) <= sample)) return whole(x);
  const int64_t blend = part_of(latent, parts.tile_overlap);
  const TileGrid grid{.size = sample,
                      .step = part_of(sample, 1 - parts.tile_overlap),
                      .blend = blend,
                      .keep = latent - blend,
                      .least = config_.downscale()};
  return map_tiles(x, grid, whole);
}

Tensor AutoencoderKl::decode_part(const Run& run, const Tensor& z, const KlParts& parts) const {
  const auto whole = [&](const Tensor& latents) {
    if (run.cancel.stop_requested()) throw CancelledError();
    return decoder_(run, post_quant_conv_ ? (*post_quant_conv_)(run, latents) : latents);
  };
  const auto [sample, latent] = tile_sizes(config_, parts);
  if (!parts.tiling || (z.size(2) <= latent && z.size(3) <= latent)) return whole(z);
  const int64_t blend = part_of(sample, parts.tile_overlap);
  const TileGrid grid{
      .size = latent, .step = part_of(latent, 1 - parts.tile_overlap), .blend = blend, .keep = sample - blend};
  return map_tiles(z, grid, whole);
}

}  // namespace kinora::models
