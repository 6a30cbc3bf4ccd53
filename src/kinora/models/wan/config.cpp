#include "kinora/models/wan/config.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kinora/base/error.h"

namespace kinora::models::wan {
namespace {

constexpr int64_t kMany = int64_t{1} << 16;
constexpr std::string_view kQkNorm = "rms_norm_across_heads";

void check(const WanConfig& c, std::string_view what) {
  if (c.attention_head_dim % 2 != 0) {
    throw DataError(concat(what, ": attention_head_dim is ", c.attention_head_dim),
                    "rotary positions turn pairs: it must be even");
  }
  if (c.added_kv_proj_dim > 0 && (c.image_dim == 0 || c.added_kv_proj_dim != c.width())) {
    throw DataError(concat(what, ": added_kv_proj_dim ", c.added_kv_proj_dim, " with image_dim ", c.image_dim),
                    concat("keys for an image need image_dim and start from rows as wide as the model, ", c.width()));
  }
  if (c.pos_embed_seq_len > 0 && c.image_dim == 0) {
    throw DataError(concat(what, ": pos_embed_seq_len without image_dim"),
                    "positions are added to an image's features");
  }
}

}  // namespace

WanConfig WanConfig::from_json(const Json& json, std::string_view what) {
  const JsonObject o(json, std::string(what));
  WanConfig c;
  const std::vector<int64_t> patch = o.ints_or("patch_size", {1, 2, 2}, 1, 64);
  if (patch.size() != c.patch_size.size()) {
    throw DataError(concat(what, ": patch_size has ", patch.size(), " numbers"),
                    "it takes three: frames, height, width");
  }
  std::copy(patch.begin(), patch.end(), c.patch_size.begin());
  c.num_attention_heads = o.int_or("num_attention_heads", c.num_attention_heads, 1, 1024);
  c.attention_head_dim = o.int_or("attention_head_dim", c.attention_head_dim, 1, 1024);
  c.in_channels = o.int_or("in_channels", c.in_channels, 1, kMany);
  c.out_channels = o.has("out_channels") ? o.require_int("out_channels", 1, kMany) : c.in_channels;
  c.text_dim = o.int_or("text_dim", c.text_dim, 1, kMany);
  c.freq_dim = o.int_or("freq_dim", c.freq_dim, 2, kMany);
  c.ffn_dim = o.int_or("ffn_dim", c.ffn_dim, 1, kMany);
  c.num_layers = o.int_or("num_layers", c.num_layers, 1, 1024);
  c.cross_attn_norm = o.bool_or("cross_attn_norm", c.cross_attn_norm);
  c.eps = o.number_or("eps", c.eps);
  c.image_dim = o.int_or("image_dim", c.image_dim, 1, kMany);
  c.added_kv_proj_dim = o.int_or("added_kv_proj_dim", c.added_kv_proj_dim, 1, kMany);
  c.rope_max_seq_len = o.int_or("rope_max_seq_len", c.rope_max_seq_len, 1, kMany);
  c.pos_embed_seq_len = o.int_or("pos_embed_seq_len", c.pos_embed_seq_len, 1, kMany);
  if (const std::string norm = o.string_or("qk_norm", kQkNorm); norm != kQkNorm) {
    throw DataError(concat(what, ": qk_norm is \"", norm, "\""), concat(kQkNorm, " is known"));
  }
  o.warn_unknown();
  check(c, what);
  return c;
}

double wan_flops(const WanConfig& config, int64_t frames, int64_t height, int64_t width, int64_t text_tokens,
                 int64_t batch, int64_t image_rows) {
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const auto& p = config.patch_size;
  const double n = real(frames / p[0] * (height / p[1]) * (width / p[2]));
  const double l = real(text_tokens), m = real(image_rows), d = real(config.width()), f = real(config.ffn_dim);
  const double image = real(config.image_dim), text = real(config.text_dim);
  const double blocks =
      real(config.num_layers) * (n * (12 * d * d + 4 * d * f) + 4 * (l + m) * d * d + 4 * n * (n + l + m) * d);
  const double ends = 2 * n * d * real(config.patch_volume() * (config.in_channels + config.out_channels));
  const double conditions =
      2 * (real(config.freq_dim) + 7 * d) * d + 2 * l * (text + d) * d + 2 * m * (image + d) * image;
  return real(batch) * (blocks + ends + conditions);
}

}  // namespace kinora::models::wan
