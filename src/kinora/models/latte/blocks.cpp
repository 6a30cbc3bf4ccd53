#include "kinora/models/latte/blocks.h"

#include <cmath>

#include "kinora/ops/attention.h"

namespace kinora::models::latte {
namespace {

std::optional<Attention> attention_if(bool wanted, const Scope& scope, const LatteConfig& c) {
  if (!wanted) return std::nullopt;
  return Attention(scope, c.width(), c.attention_head_dim, c.attention_bias);
}

}  // namespace

Attention::Attention(const Scope& scope, int64_t width, int64_t head_dim, bool bias)
    : head_dim_(head_dim),
      q_(scope / "to_q", width, width, {.bias = bias}),
      k_(scope / "to_k", width, width, {.bias = bias}),
      v_(scope / "to_v", width, width, {.bias = bias}),
      out_(scope / "to_out" / 0, width, width) {}

/// [N, rows, C] -> [N, A, rows, D]
Tensor Attention::heads(const Tensor& rows) const { return rows.unflatten(2, {-1, head_dim_}).transpose(1, 2); }

Tensor Attention::self(const Run& run, const Tensor& x, Axis along, const Extent& extent) const {
  const bool in_frame = along == Axis::rows;
  // Frames of a patch are brought side by side once, before three layers read them.
  const Tensor sets = in_frame ? x : x.transpose(1, 2).contiguous();
  const Tensor rows = sets.flatten(0, 1);  // [B T, S, C] or [B S, T, C]
  const auto prepared = [&](const Linear& linear) {
    return heads(linear(run, rows)).unflatten(0, {sets.size(0), sets.size(1)});
  };
  const Tensor out = run.layout->attend({prepared(q_), prepared(k_), prepared(v_)}, along, extent);
  const Tensor merged = out.transpose(2, 3).flatten(3);
  return out_(run, in_frame ? merged : merged.transpose(1, 2).contiguous());
}

Tensor Attention::cross(const Run& run, const Tensor& x, const Tensor& text, const Tensor& bias) const {
  const int64_t frames = x.size(1), patches = x.size(2);
  std::optional<Tensor> mask;
  if (bias.defined()) {  // [B, 1, 1, L], or [B, 1, T S, L] where frames differ
    mask = bias.size(1) == 1 ? bias : bias.expand({-1, frames, patches, -1}).flatten(1, 2).unsqueeze(1);
  }
  const Tensor out = ops::attention(heads(q_(run, x.flatten(1, 2))), heads(k_(run, text)), heads(v_(run, text)), mask);
  return out_(run, out.transpose(1, 2).flatten(2)).unflatten(1, {frames, patches});
}

Block::Block(const Scope& scope, const LatteConfig& config, Axis along, int index)
    : along_(along),
      index_(index),
      attn1_path_((scope / "attn1").path()),
      attn2_path_((scope / "attn2").path()),
      ff_path_((scope / "ff").path()),
      scale_shift_(scope.param("scale_shift_table", {6, config.width()},
                               {.init = init::normal(1 / std::sqrt(static_cast<double>(config.width())))})),
      norm1_(scope / "norm1", config.width(), {.eps = config.norm_eps, .weight = config.norm_elementwise_affine}),
      attn1_(scope / "attn1", config.width(), config.attention_head_dim, config.attention_bias),
      attn2_(attention_if(along == Axis::rows, scope / "attn2", config)),
      norm2_(scope / "norm2", config.width(), {.eps = config.norm_eps, .weight = config.norm_elementwise_affine}),
      ff_(scope / "ff", config.width(), 4 * config.width(), config.feed_forward) {}

Modulation Block::modulation(const Run& run, const Conditioning& c, int64_t first) const {
  const Tensor table = run.weights->get(scale_shift_).narrow(0, first, 3);
  const Tensor m = (table + c.time.narrow(1, first, 3)).unsqueeze(2).unsqueeze(2);  // [B, 3, 1, 1, C]
  return {m.select(1, 0), m.select(1, 1), m.select(1, 2)};
}

Tensor Block::operator()(const Run& run, const Tensor& x, const Conditioning& c) const {
  const auto there = [&](const Run& inner, Streams in) -> Streams { return {compute(inner, in[0], c)}; };
  return run.layout->around(run, {Part::block, along_, c.extent}, {x}, there)[0];
}

Tensor Block::compute(const Run& run, const Tensor& input, const Conditioning& c) const {
  const Kind kind = along_ == Axis::rows ? Kind::spatial : Kind::temporal;
  const auto attend = [&](const Modulation& m) -> Tensor {
    const auto there = [&](const Run& inner, Streams in) -> Streams {
      return {attn1_.self(inner, in[0], along_, c.extent)};
    };
    const Bracket bracket{Part::attention, along_, c.extent};
    return run.layout->around(run, bracket, {norm1_(run, input, m.scale, m.shift)}, there)[0];
  };
  Tensor x = add_sublayer(
      run, input, {attn1_path_, index_, kind, Point::module}, [&] { return modulation(run, c, 0); }, attend);

  if (attn2_) {  // neither normed nor gated, as in PixArt-alpha
    const auto read = [&](const Modulation&) {
      const bool of_frames = c.text_bias.defined() && c.text_bias.size(1) > 1;
      return attn2_->cross(run, x, c.text, of_frames ? run.layout->local(c.text_bias, Axis::frames, 1) : c.text_bias);
    };
    x = add_sublayer(
        run, x, {attn2_path_, index_, Kind::cross, Point::module}, [] { return Modulation{}; }, read);
  }

  const auto think = [&](const Modulation& m) { return ff_(run, norm2_(run, x, m.scale, m.shift)); };
  return add_sublayer(
      run, x, {ff_path_, index_, Kind::mlp, Point::module}, [&] { return modulation(run, c, 3); }, think);
}

Tensor Block::modulated_input(const Run& run, const Tensor& x, const Conditioning& c) const {
  const Modulation m = modulation(run, c, 0);
  return norm1_(run, x, m.scale, m.shift);
}

}  // namespace kinora::models::latte
