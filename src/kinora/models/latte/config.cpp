#include "kinora/models/latte/config.h"

#include <string>

#include "kinora/base/error.h"

namespace kinora::models::latte {
namespace {

constexpr int64_t kMany = int64_t{1} << 16;

void check(const LatteConfig& c, std::string_view what) {
  // Half of the width is for columns, half for rows; each takes sines and cosines.
  if (c.width() % 4 != 0)
    throw DataError(concat(what, ": positions of width ", c.width()), "the width must be a multiple of 4");
  if (c.sample_size < c.patch_size)
    throw DataError(concat(what, ": a sample of ", c.sample_size, " in patches of ", c.patch_size));
}

}  // namespace

LatteConfig LatteConfig::from_json(const Json& json, std::string_view what) {
  const JsonObject o(json, std::string(what));
  LatteConfig c;
  c.num_attention_heads = o.int_or("num_attention_heads", c.num_attention_heads, 1, 1024);
  c.attention_head_dim = o.int_or("attention_head_dim", c.attention_head_dim, 1, 1024);
  c.in_channels = o.require_int("in_channels", 1, kMany);
  c.out_channels = o.int_or("out_channels", c.in_channels, 1, kMany);
  c.num_layers = o.int_or("num_layers", c.num_layers, 1, 1024);
  c.attention_bias = o.bool_or("attention_bias", c.attention_bias);
  c.sample_size = o.int_or("sample_size", c.sample_size, 1, kMany);
  c.patch_size = o.require_int("patch_size", 1, 64);
  c.feed_forward = feed_forward_form(o.string_or("activation_fn", "geglu"), what);
  c.norm_elementwise_affine = o.bool_or("norm_elementwise_affine", c.norm_elementwise_affine);
  c.norm_eps = o.number_or("norm_eps", c.norm_eps);
  c.caption_channels = o.require_int("caption_channels", 1, kMany);
  c.video_length = o.int_or("video_length", c.video_length, 1, kMany);
  if (const std::string norm = o.string_or("norm_type", "layer_norm"); norm != "ada_norm_single")
    throw DataError(concat(what, ": norm_type is \"", norm, "\""), "Latte's blocks have ada_norm_single");
  if (const int64_t text = o.require_int("cross_attention_dim", 1, kMany); text != c.width()) {
    throw DataError(concat(what, ": cross_attention_dim ", text, " in a model of width ", c.width()),
                    "captions are brought to the model's width, so the two must be equal");
  }
  o.ignore({"dropout", "num_embeds_ada_norm", "use_linear_projection"});
  o.warn_unknown();
  check(c, what);
  return c;
}

double latte_flops(const LatteConfig& config, int64_t frames, int64_t height, int64_t width, int64_t text_tokens,
                   int64_t batch) {
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const int64_t p = config.patch_size;
  const double t = real(frames), s = real(height / p * (width / p)), n = t * s, l = real(text_tokens);
  const double d = real(config.width()), f = config.feed_forward.gated ? 6 : 4;
  const double blocks = real(config.num_layers) * ((n * (20 + 8 * f) + 4 * l) * d * d + 4 * n * (s + t + l) * d);
  const double ends = 2 * n * d * real(p * p * (config.in_channels + config.out_channels));
  const double conditions = 2 * (256 + 7 * d) * d + 2 * l * (real(config.caption_channels) + d) * d;
  return real(batch) * (blocks + ends + conditions);
}

}  // namespace kinora::models::latte
