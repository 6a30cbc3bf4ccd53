#include "kinora/models/wan/blocks.h"

#include <cmath>

#include "kinora/ops/attention.h"

namespace kinora::models::wan {
namespace {

/// [B, rows, C] -> [B, A, rows, D].
Tensor split_heads(const Tensor& rows, int64_t head_dim) { return rows.unflatten(-1, {-1, head_dim}).transpose(1, 2); }

/// The way back, to the shape that `like` has but for its width.
Tensor merge_heads(const Tensor& heads, const Tensor& like) {
  return heads.transpose(1, 2).flatten(2).unflatten(1, {like.size(1), like.size(2)});
}

std::optional<LayerNorm> norm_if(bool wanted, const Scope& scope, int64_t width, double eps) {
  if (!wanted) return std::nullopt;
  return LayerNorm(scope, width, {.eps = eps});
}

}  // namespace

Projections::Projections(const Scope& scope, int64_t width, double eps)
    : q(scope / "to_q", width, width),
      k(scope / "to_k", width, width),
      v(scope / "to_v", width, width),
      q_norm(scope / "norm_q", width, eps),
      k_norm(scope / "norm_k", width, eps),
      out(scope / "to_out" / 0, width, width) {}

SelfAttention::SelfAttention(const Scope& scope, int64_t width, int64_t head_dim, double eps)
    : head_dim_(head_dim), layers_(scope, width, eps) {}

Tensor SelfAttention::operator()(const Run& run, const Tensor& x, const RotaryTable& rotary,
                                 const Extent& extent) const {
  const auto there = [&](const Run& inner, Streams in) -> Streams { return {attend(inner, in[0], rotary, extent)}; };
  return run.layout->around(run, {Part::attention, std::nullopt, extent}, {x}, there)[0];
}

Tensor SelfAttention::attend(const Run& run, const Tensor& x, const RotaryTable& rotary, const Extent& extent) const {
  const RotaryTable local = local_rows(*run.layout, rotary);
  const Tensor rows = x.flatten(1, 2), cos = local.cos.flatten(0, 1), sin = local.sin.flatten(0, 1);
  const auto rotated = [&](const Linear& linear, const RmsNorm& norm) {
    const Tensor heads = split_heads(norm(run, linear(run, rows)), head_dim_);
    return ops::qk_norm_rotary(heads, std::nullopt, std::nullopt, 0, cos, sin);
  };
  const Heads heads{.q = rotated(layers_.q, layers_.q_norm),
                    .k = rotated(layers_.k, layers_.k_norm),
                    .v = split_heads(layers_.v(run, rows), head_dim_)};
  return layers_.out(run, merge_heads(run.layout->attend_all(heads, nullptr, extent)[0], x));
}

std::optional<CrossAttention::OfImage> CrossAttention::of_image(bool wanted, const Scope& scope, int64_t width,
                                                                double eps) {
  if (!wanted) return std::nullopt;
  return OfImage{.k = {scope / "add_k_proj", width, width},
                 .v = {scope / "add_v_proj", width, width},
                 .k_norm = {scope / "norm_added_k", width, eps}};
}

CrossAttention::CrossAttention(const Scope& scope, int64_t width, int64_t head_dim, double eps, bool has_image)
    : head_dim_(head_dim), layers_(scope, width, eps), image_(of_image(has_image, scope, width, eps)) {}

Tensor CrossAttention::attend(const Run& run, const Tensor& q, const Tensor& rows, const Linear& k,
                              const RmsNorm& k_norm, const Linear& v) const {
  return ops::attention(q, split_heads(k_norm(run, k(run, rows)), head_dim_), split_heads(v(run, rows), head_dim_));
}

Tensor CrossAttention::operator()(const Run& run, const Tensor& x, const Context& context) const {
  const Tensor q = split_heads(layers_.q_norm(run, layers_.q(run, x.flatten(1, 2))), head_dim_);
  const int64_t before = image_ ? context.image_rows : 0;
  const Tensor text = context.rows.narrow(1, before, context.rows.size(1) - before);
  Tensor out = attend(run, q, text, layers_.k, layers_.k_norm, layers_.v);
  if (image_) out = out + attend(run, q, context.rows.narrow(1, 0, before), image_->k, image_->k_norm, image_->v);
  return layers_.out(run, merge_heads(out, x));
}

Block::Block(const Scope& scope, const WanConfig& config, int index)
    : index_(index),
      attn1_path_((scope / "attn1").path()),
      attn2_path_((scope / "attn2").path()),
      ffn_path_((scope / "ffn").path()),
      scale_shift_(scope.param("scale_shift_table", {1, 6, config.width()},
                               {.init = init::normal(1 / std::sqrt(static_cast<double>(config.width())))})),
      norm_(scope, config.width(), {.eps = config.eps, .weight = false}),
      attn1_(scope / "attn1", config.width(), config.attention_head_dim, config.eps),
      norm2_(norm_if(config.cross_attn_norm, scope / "norm2", config.width(), config.eps)),
      attn2_(scope / "attn2", config.width(), config.attention_head_dim, config.eps, config.added_kv_proj_dim > 0),
      ffn_(scope / "ffn", config.width(), config.ffn_dim, {.activation = ops::Activation::gelu_tanh}) {}

Modulation Block::modulation(const Run& run, const Conditioning& c, int64_t first) const {
  const Tensor m = run.weights->get(scale_shift_).narrow(1, first, 3) +
                   for_rows(c.time_projection).unflatten(-1, {6, -1}).narrow(-2, first, 3);
  return {m.select(-2, 0), m.select(-2, 1), m.select(-2, 2)};
}

Tensor Block::operator()(const Run& run, const Tensor& x, const Conditioning& c) const {
  const auto there = [&](const Run& inner, Streams in) -> Streams { return {compute(inner, in[0], c)}; };
  return run.layout->around(run, {Part::block, std::nullopt, c.extent}, {x}, there)[0];
}

Tensor Block::compute(const Run& run, const Tensor& input, const Conditioning& c) const {
  Tensor x = add_sublayer(
      run, input, {attn1_path_, index_, Kind::full, Point::module}, [&] { return modulation(run, c, 0); },
      [&](const Modulation& m) { return attn1_(run, norm_(run, input, m.scale, m.shift), c.rotary, c.extent); });
  x = add_sublayer(
      run, x, {attn2_path_, index_, Kind::cross, Point::module}, [] { return Modulation{}; },
      [&](const Modulation&) { return attn2_(run, norm2_ ? (*norm2_)(run, x) : x, c.context); });
  return add_sublayer(
      run, x, {ffn_path_, index_, Kind::mlp, Point::module}, [&] { return modulation(run, c, 3); },
      [&](const Modulation& m) { return ffn_(run, norm_(run, x, m.scale, m.shift)); });
}

Tensor Block::modulated_input(const Run& run, const Tensor& x, const Conditioning& c) const {
  const Modulation m = modulation(run, c, 0);
  return norm_(run, x, m.scale, m.shift);
}

}  // namespace kinora::models::wan
