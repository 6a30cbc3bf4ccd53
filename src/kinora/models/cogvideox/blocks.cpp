#include "kinora/models/cogvideox/blocks.h"

#include <utility>

#include "kinora/ops/attention.h"

namespace kinora::models::cogvideox {
namespace {

constexpr double kHeadNormEps = 1e-6;

}  // namespace

LayerNormZero::LayerNormZero(const Scope& scope, int64_t time_width, int64_t width, bool affine, double eps)
    : linear_(scope / "linear", time_width, 6 * width), norm_(scope / "norm", width, {.eps = eps, .weight = affine}) {}

Modulations LayerNormZero::modulation(const Run& run, const Tensor& time_embed) const {
  const auto parts = linear_(run, ops::activate(time_embed, ops::Activation::silu)).unsqueeze(1).chunk(6, -1);
  const auto video = [&](size_t i) { return parts[i].unsqueeze(1); };
  return {{video(0), video(1), video(2)}, {parts[3], parts[4], parts[5]}};
}

Streams LayerNormZero::norm(const Run& run, const Streams& streams, const Modulations& m) const {
  return {norm_(run, streams[0], m[0].scale, m[0].shift), norm_(run, streams[1], m[1].scale, m[1].shift)};
}

JointAttention::HeadNorm JointAttention::head_norm(const Scope& scope, int64_t head_dim) {
  Param weight = scope.param("weight", {head_dim}, {.init = init::ones});
  return {.weight = std::move(weight), .bias = scope.param("bias", {head_dim})};
}

JointAttention::JointAttention(const Scope& scope, int64_t width, int64_t head_dim, bool bias)
    : head_dim_(head_dim),
      q_(scope / "to_q", width, width, {.bias = bias}),
      k_(scope / "to_k", width, width, {.bias = bias}),
      v_(scope / "to_v", width, width, {.bias = bias}),
      q_norm_(head_norm(scope / "norm_q", head_dim)),
      k_norm_(head_norm(scope / "norm_k", head_dim)),
      out_(scope / "to_out" / 0, width, width) {}

Heads JointAttention::heads(const Run& run, const Tensor& rows, const RotaryTable* rotary) const {
  std::optional<Tensor> cos, sin;
  if (rotary) cos = rotary->cos.flatten(0, 1), sin = rotary->sin.flatten(0, 1);
  const auto split = [&](const Linear& linear) {
    return linear(run, rows).unflatten(-1, {-1, head_dim_}).transpose(1, 2);
  };
  const auto prepared = [&](const Linear& linear, const HeadNorm& norm) {
    return ops::qk_norm_rotary(split(linear), run.weights->get(norm.weight), run.weights->get(norm.bias), kHeadNormEps,
                               cos, sin);
  };
  return {.q = prepared(q_, q_norm_), .k = prepared(k_, k_norm_), .v = split(v_)};
}

Streams JointAttention::operator()(const Run& run, const Streams& streams, const RotaryTable* rotary,
                                   const Extent& extent) const {
  const auto there = [&](const Run& inner, Streams in) { return attend(inner, in, rotary, extent); };
  return run.layout->around(run, {Part::attention, std::nullopt, extent}, streams, there);
}

Streams JointAttention::attend(const Run& run, const Streams& streams, const RotaryTable* rotary,
                               const Extent& extent) const {
  const Tensor& video = streams[0];
  RotaryTable local;
  if (rotary) local = local_rows(*run.layout, *rotary);
  const Heads of_video = heads(run, video.flatten(1, 2), rotary ? &local : nullptr),
              of_text = heads(run, streams[1], nullptr);
  const Streams mixed = run.layout->attend_all(of_video, &of_text, extent);
  const auto merged = [&](const Tensor& t) { return out_(run, t.transpose(1, 2).flatten(2)); };
  return {merged(mixed[0]).unflatten(1, {video.size(1), video.size(2)}), merged(mixed[1])};
}

Block::Block(const Scope& scope, const CogVideoXConfig& config, int index)
    : index_(index),
      attn_path_((scope / "attn1").path()),
      ff_path_((scope / "ff").path()),
      norm1_(scope / "norm1", config.time_embed_dim, config.width(), config.norm_elementwise_affine, config.norm_eps),
      attn1_(scope / "attn1", config.width(), config.attention_head_dim, config.attention_bias),
      norm2_(scope / "norm2", config.time_embed_dim, config.width(), config.norm_elementwise_affine, config.norm_eps),
      ff_(scope / "ff", config.width(), 4 * config.width(), config.feed_forward) {}

Streams Block::operator()(const Run& run, Streams streams, const Conditioning& c) const {
  const auto there = [&](const Run& inner, Streams in) { return compute(inner, std::move(in), c); };
  return run.layout->around(run, {Part::block, std::nullopt, c.extent}, std::move(streams), there);
}

Streams Block::compute(const Run& run, Streams streams, const Conditioning& c) const {
  const RotaryTable* rotary = c.rotary.cos.defined() ? &c.rotary : nullptr;
  const auto add = [&](const std::string& path, Kind kind, const LayerNormZero& norm,
                       c10::function_ref<Streams(const Streams&)> compute) {
    return add_sublayer(
        run, streams, {path, index_, kind, Point::module}, [&] { return norm.modulation(run, c.time_embed); },
        [&](const Modulations& m) { return compute(norm.norm(run, streams, m)); });
  };
  streams = add(attn_path_, Kind::full, norm1_, [&](const Streams& in) { return attn1_(run, in, rotary, c.extent); });
  return add(ff_path_, Kind::mlp, norm2_, [&](const Streams& in) -> Streams {
    return {ff_(run, in[0]), ff_(run, in[1])};
  });
}

Tensor Block::modulated_input(const Run& run, const Streams& streams, const Conditioning& c) const {
  return norm1_.norm(run, streams, norm1_.modulation(run, c.time_embed))[0];
}

}  // namespace kinora::models::cogvideox
