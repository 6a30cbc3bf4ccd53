#include "kinora/models/cogvideox/config.h"

#include <string>

#include "kinora/base/error.h"

namespace kinora::models::cogvideox {
namespace {

constexpr int64_t kMany = int64_t{1} << 16;

ops::Activation read_timestep_activation(const std::string& name, std::string_view what) {
  if (name == "silu" || name == "swish") return ops::Activation::silu;
  if (name == "gelu") return ops::Activation::gelu;
  if (name == "relu") return ops::Activation::relu;
  throw DataError(concat(what, ": timestep_activation_fn is \"", name, "\""), "silu, gelu and relu are known");
}

void check(const CogVideoXConfig& c, std::string_view what) {
  if (c.use_learned_positional_embeddings && !c.use_rotary_positional_embeddings) {
    throw DataError(concat(what, ": learned positions without rotary ones"), "no published CogVideoX has them");
  }
  // A quarter of the width (and of a head, where rotary) is time, the rest two equal halves; each takes sines and
  // cosines.
  const int64_t divided = c.use_rotary_positional_embeddings ? c.attention_head_dim : c.width();
  if (divided % 16 != 0)
    throw DataError(concat(what, ": positions of width ", divided), "the width must be a multiple of 16");
  if (c.ofs_embed_dim > 0 && c.ofs_embed_dim != c.time_embed_dim) {
    throw DataError(concat(what, ": ofs_embed_dim ", c.ofs_embed_dim, " beside time_embed_dim ", c.time_embed_dim),
                    "the two embeddings are added, so they must be equally wide");
  }
  if (c.sample_width % c.patch_size != 0 || c.sample_height % c.patch_size != 0) {
    throw DataError(
        concat(what, ": a sample of ", c.sample_height, " x ", c.sample_width, " in patches of ", c.patch_size));
  }
}

}  // namespace

CogVideoXConfig CogVideoXConfig::from_json(const Json& json, std::string_view what) {
  const JsonObject o(json, std::string(what));
  CogVideoXConfig c;
  c.num_attention_heads = o.int_or("num_attention_heads", c.num_attention_heads, 1, 1024);
  c.attention_head_dim = o.int_or("attention_head_dim", c.attention_head_dim, 1, 1024);
  c.in_channels = o.int_or("in_channels", c.in_channels, 1, kMany);
  c.out_channels = o.int_or("out_channels", c.out_channels, 1, kMany);
  c.flip_sin_to_cos = o.bool_or("flip_sin_to_cos", c.flip_sin_to_cos);
  c.freq_shift = o.number_or("freq_shift", c.freq_shift);
  c.time_embed_dim = o.int_or("time_embed_dim", c.time_embed_dim, 1, kMany);
  c.ofs_embed_dim = o.int_or("ofs_embed_dim", c.ofs_embed_dim, 0, kMany);
  c.text_embed_dim = o.int_or("text_embed_dim", c.text_embed_dim, 1, kMany);
  c.num_layers = o.int_or("num_layers", c.num_layers, 1, 1024);
  c.attention_bias = o.bool_or("attention_bias", c.attention_bias);
  c.sample_width = o.int_or("sample_width", c.sample_width, 1, kMany);
  c.sample_height = o.int_or("sample_height", c.sample_height, 1, kMany);
  c.sample_frames = o.int_or("sample_frames", c.sample_frames, 1, kMany);
  c.patch_size = o.int_or("patch_size", c.patch_size, 1, 64);
  c.patch_size_t = o.int_or("patch_size_t", c.patch_size_t, 0, 64);
  c.temporal_compression_ratio = o.int_or("temporal_compression_ratio", c.temporal_compression_ratio, 1, 64);
  c.max_text_seq_length = o.int_or("max_text_seq_length", c.max_text_seq_length, 1, kMany);
  c.feed_forward = feed_forward_form(o.string_or("activation_fn", "gelu-approximate"), what);
  c.timestep_activation = read_timestep_activation(o.string_or("timestep_activation_fn", "silu"), what);
  c.norm_elementwise_affine = o.bool_or("norm_elementwise_affine", c.norm_elementwise_affine);
  c.norm_eps = o.number_or("norm_eps", c.norm_eps);
  c.spatial_interpolation_scale = o.number_or("spatial_interpolation_scale", c.spatial_interpolation_scale);
  c.temporal_interpolation_scale = o.number_or("temporal_interpolation_scale", c.temporal_interpolation_scale);
  c.use_rotary_positional_embeddings =
      o.bool_or("use_rotary_positional_embeddings", c.use_rotary_positional_embeddings);
  c.use_learned_positional_embeddings =
      o.bool_or("use_learned_positional_embeddings", c.use_learned_positional_embeddings);
  c.patch_bias = o.bool_or("patch_bias", c.patch_bias);
  o.ignore({"dropout"});
  o.warn_unknown();
  check(c, what);
  return c;
}

double cogvideox_flops(const CogVideoXConfig& config, int64_t frames, int64_t height, int64_t width,
                       int64_t text_tokens, int64_t batch) {
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const int64_t p = config.patch_size, pt = config.patch_frames();
  const double n = real(frames / pt * (height / p) * (width / p)), l = real(text_tokens), rows = n + l;
  const double d = real(config.width()), e = real(config.time_embed_dim), o = real(config.ofs_embed_dim);
  const double feed_forward = config.feed_forward.gated ? 12 : 8;
  const double blocks =
      real(config.num_layers) * (rows * (4 + feed_forward) * 2 * d * d + 4 * rows * rows * d + 24 * e * d);
  const double ends = 2 * n * d * real(pt * p * p * (config.in_channels + config.out_channels)) +
                      2 * l * real(config.text_embed_dim) * d;
  const double time = 2 * (d + e) * e + 4 * o * o + 4 * e * d;
  return real(batch) * (blocks + ends + time);
}

}  // namespace kinora::models::cogvideox
