#include "kinora/models/decoder/layers.h"

#include "kinora/ops/attention.h"
#include "kinora/ops/residual.h"

namespace kinora::models::decoder {
namespace {

bool is_opt(const DecoderConfig& c) { return c.family == Family::opt; }

std::variant<RmsNorm, LayerNorm> norm_of(const Scope& scope, const DecoderConfig& c) {
  if (is_opt(c)) return LayerNorm(scope, c.hidden_size, {.eps = c.norm_eps, .weight = c.norm_affine});
  return RmsNorm(scope, c.hidden_size, c.norm_eps);
}

std::optional<Linear> gate_of(const Scope& scope, const DecoderConfig& c) {
  if (is_opt(c)) return std::nullopt;
  return Linear(scope / "gate_proj", c.hidden_size, c.intermediate_size, {.bias = c.mlp_bias});
}

/// [B, N, heads D] -> [B, heads, N, D].
Tensor split_heads(const Tensor& rows, int64_t head_dim) { return rows.unflatten(-1, {-1, head_dim}).transpose(1, 2); }

/// q [B, A, N, D] to k and v [B, K, M, D] -> [B, N, A D]. Where A / K = G queries share a head, samples and heads of keys
/// become samples, [B K, G, N, D], over which keys and values spread without a copy.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, int64_t group) {
  const std::optional<Tensor> if_mask = mask.defined() ? std::optional<Tensor>(mask) : std::nullopt;
  if (group == 1) return ops::attention(q, k, v, if_mask).transpose(1, 2).flatten(2);
  const int64_t batch = q.size(0), heads = k.size(1);
  const auto spread = [&](const Tensor& t) {
    return t.unsqueeze(2).expand({batch, heads, group, t.size(2), t.size(3)}).flatten(0, 1);
  };
  const Tensor folded = q.unflatten(1, {heads, group}).flatten(0, 1);
  const Tensor y = ops::attention(folded, spread(k), spread(v), if_mask).unflatten(0, {batch, heads});
  return y.permute({0, 3, 1, 2, 4}).flatten(2);
}

}  // namespace

Norm::Norm(const Scope& scope, const DecoderConfig& config) : norm_(norm_of(scope, config)) {}

Tensor Norm::operator()(const Run& run, const Tensor& x) const {
  if (const auto* rms = std::get_if<RmsNorm>(&norm_)) return (*rms)(run, x);
  return std::get<LayerNorm>(norm_)(run, x);
}

Attention::Attention(const Scope& scope, const DecoderConfig& config)
    : group_(config.group()),
      head_dim_(config.head_dim),
      q_(scope / "q_proj", config.hidden_size, config.query_width(), {.bias = config.attention_bias}),
      k_(scope / "k_proj", config.hidden_size, config.key_width(), {.bias = config.attention_bias}),
      v_(scope / "v_proj", config.hidden_size, config.key_width(), {.bias = config.attention_bias}),
      out_(scope / (is_opt(config) ? "out_proj" : "o_proj"), config.query_width(), config.hidden_size,
           {.bias = config.attention_bias}) {}

Tensor Attention::turned(const Tensor& heads, const Positions& positions) const {
  return positions.rotary.cos.defined() ? rotate(heads, positions.rotary) : heads;
}

Tensor Attention::keys_values(const Run& run, const Tensor& x, const Positions& positions) const {
  const Tensor k = turned(split_heads(k_(run, x), head_dim_), positions);
  return at::stack({k, split_heads(v_(run, x), head_dim_)});
}

Tensor Attention::operator()(const Run& run, const Tensor& x, const Tensor& rows, const Positions& positions) const {
  const Tensor q = turned(split_heads(q_(run, x), head_dim_), positions);
  return out_(run, attend(q, rows.select(0, 0), rows.select(0, 1), positions.mask, group_));
}

FeedForward::FeedForward(const Scope& scope, const DecoderConfig& config)
    : activation_(config.activation),
      gate_(gate_of(scope, config)),
      up_(scope / (is_opt(config) ? "fc1" : "up_proj"), config.hidden_size, config.intermediate_size,
          {.bias = config.mlp_bias}),
      down_(scope / (is_opt(config) ? "fc2" : "down_proj"), config.intermediate_size, config.hidden_size,
            {.bias = config.mlp_bias}) {}

Tensor FeedForward::operator()(const Run& run, const Tensor& x) const {
  if (!gate_) return down_(run, ops::activate(up_(run, x), activation_));
  const Tensor gate = ops::activate((*gate_)(run, x), activation_);
  return down_(run, gate * up_(run, x));
}

Layer::Layer(const Scope& scope, const DecoderConfig& config, int index)
    : index_(index),
      attention_path_((scope / "self_attn").path()),
      mlp_path_((is_opt(config) ? scope / "fc2" : scope / "mlp").path()),
      is_norm_before_(config.do_layer_norm_before),
      attention_norm_(scope / (is_opt(config) ? "self_attn_layer_norm" : "input_layernorm"), config),
      attention_(scope / "self_attn", config),
      mlp_norm_(scope / (is_opt(config) ? "final_layer_norm" : "post_attention_layernorm"), config),
      mlp_(is_opt(config) ? scope : scope / "mlp", config) {}

Tensor Layer::keys_values(const Run& run, const Tensor& x, const Positions& positions) const {
  return attention_.keys_values(run, is_norm_before_ ? attention_norm_(run, x) : x, positions);
}

Tensor Layer::summed(const Run& run, const Tensor& x, const SiteKey& key, const Norm& norm,
                     c10::function_ref<Tensor(const Tensor&)> compute) const {
  const Tensor y = site_tensor(run, key, [&] { return compute(is_norm_before_ ? norm(run, x) : x); });
  const Tensor sum = ops::add_residual(x, y);
  return is_norm_before_ ? sum : norm(run, sum);
}

Tensor Layer::operator()(const Run& run, const Tensor& x, const Tensor& rows, const Positions& positions) const {
  const Tensor attended = summed(run, x, {attention_path_, index_, Kind::full, Point::residual}, attention_norm_,
                                 [&](const Tensor& in) { return attention_(run, in, rows, positions); });
  return summed(run, attended, {mlp_path_, index_, Kind::mlp, Point::residual}, mlp_norm_,
                [&](const Tensor& in) { return mlp_(run, in); });
}

}  // namespace kinora::models::decoder
