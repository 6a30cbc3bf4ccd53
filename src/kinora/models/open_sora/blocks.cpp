#include "kinora/models/open_sora/blocks.h"

#include <cmath>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/ops/attention.h"

namespace kinora::models::open_sora {
namespace {

std::optional<RmsNorm> norm_if(bool wanted, const Scope& scope, int64_t width) {
  if (!wanted) return std::nullopt;
  return RmsNorm(scope, width);
}

Init table_init(int64_t width) { return init::normal(1 / std::sqrt(static_cast<double>(width))); }

/// The temporal half starts as the identity: a model trained on images learns motion without forgetting them.
Init last_init(Axis along) { return along == Axis::frames ? Init(init::zeros) : Init(init::xavier_uniform); }

}  // namespace

SelfAttention::SelfAttention(const Scope& scope, int64_t width, int64_t heads, const Options& options)
    : head_dim_(width / heads),
      norm_after_rotary_(options.norm_after_rotary),
      qkv_(scope / "qkv", width, 3 * width),
      q_norm_(norm_if(options.qk_norm, scope / "q_norm", head_dim_)),
      k_norm_(norm_if(options.qk_norm, scope / "k_norm", head_dim_)),
      proj_(scope / "proj", width, width, {.init = options.proj_init}) {}

Tensor SelfAttention::prepare(const Run& run, const Tensor& heads, const std::optional<RmsNorm>& norm,
                              const Rotary* rotary) const {
  std::optional<Tensor> weight, cos, sin;
  if (norm) weight = run.weights->get(norm->weight());
  if (rotary) cos = rotary->cos, sin = rotary->sin;
  const double eps = norm ? norm->eps() : 0;
  if (!norm_after_rotary_) return ops::qk_norm_rotary(heads, weight, std::nullopt, eps, cos, sin);
  const Tensor rotated = ops::qk_norm_rotary(heads, std::nullopt, std::nullopt, eps, cos, sin);
  return ops::qk_norm_rotary(rotated, weight, std::nullopt, eps, std::nullopt, std::nullopt);
}

Tensor SelfAttention::operator()(const Run& run, const Tensor& x, Axis along, const Extent& extent,
                                 const Rotary* rotary) const {
  const int64_t batch = x.size(0), frames = x.size(1), rows = x.size(2);
  const Tensor qkv = qkv_(run, x);
  const int64_t heads = qkv.size(3) / (3 * head_dim_);  // fewer than the model's where weights are sharded
  const bool in_frame = along == Axis::rows;
  const std::vector<Tensor> parts = qkv.chunk(3, -1);  // its gradient is one cat
  const auto stream = [&](size_t which) {              // [B, T or S, A, rows, D]
    const Tensor split = parts[which].view({batch, frames, rows, heads, head_dim_});
    return in_frame ? split.permute({0, 1, 3, 2, 4}) : split.permute({0, 2, 3, 1, 4});
  };
  Tensor out = stream(2);
  if (extent.of(along) > 1) {  // a row alone attends to itself
    const Tensor q = prepare(run, stream(0), q_norm_, rotary), k = prepare(run, stream(1), k_norm_, rotary);
    out = run.layout->attend({q, k, out}, along, extent);
  }
  const Tensor home = in_frame ? out.permute({0, 1, 3, 2, 4}) : out.permute({0, 3, 1, 2, 4});
  return proj_(run, home.reshape({batch, frames, rows, heads * head_dim_}));
}

CrossAttention::CrossAttention(const Scope& scope, int64_t width, int64_t heads, Init proj_init)
    : head_dim_(width / heads),
      q_(scope / "q_linear", width, width),
      kv_(scope / "kv_linear", width, 2 * width),
      proj_(scope / "proj", width, width, {.init = std::move(proj_init)}) {}

Tensor CrossAttention::keys_values(const Run& run, const Tensor& tokens) const { return kv_(run, tokens); }

Tensor CrossAttention::operator()(const Run& run, const Tensor& x, const Tensor& keys_values,
                                  at::IntArrayRef lengths) const {
  const Tensor q = q_(run, x.flatten(1, 2)).unflatten(-1, {-1, head_dim_}).transpose(1, 2);
  const Tensor kv =
      keys_values.view({keys_values.size(1), 2, -1, head_dim_}).permute({1, 2, 0, 3});  // [2, A, tokens, D]
  const Tensor out = ops::attention_packed(q, kv.select(0, 0), kv.select(0, 1), lengths);
  return proj_(run, out.transpose(1, 2).flatten(2)).unflatten(1, {x.size(1), x.size(2)});
}

std::vector<Tensor> Conditioning::read_by_blocks() const {
  std::vector<Tensor> all{caption.tokens, time, time_zero, frame_mask, rotary.cos, rotary.sin};
  all.insert(all.end(), caption.keys_values.begin(), caption.keys_values.end());
  return all;
}

Block::Block(const Scope& scope, const STDiT3Config& config, Axis along, int index)
    : along_(along),
      index_(index),
      attn_path_((scope / "attn").path()),
      cross_path_((scope / "cross_attn").path()),
      mlp_path_((scope / "mlp").path()),
      scale_shift_(scope.param("scale_shift_table", {6, config.hidden_size}, {.init = table_init(config.hidden_size)})),
      norm_(scope, config.hidden_size, {.eps = 1e-6, .weight = false}),
      attn_(scope / "attn", config.hidden_size, config.num_heads,
            {.qk_norm = config.qk_norm, .norm_after_rotary = config.qk_norm_legacy, .proj_init = last_init(along)}),
      cross_(scope / "cross_attn", config.hidden_size, config.num_heads, last_init(along)),
      mlp_(scope / "mlp" / "fc1", scope / "mlp" / "fc2", config.hidden_size, config.mlp_size(), config.hidden_size,
           ops::Activation::gelu_tanh, {.init = last_init(along)}) {}

Modulation Block::modulation(const Run& run, const Conditioning& c, int64_t first) const {
  const Tensor table = run.weights->get(scale_shift_).narrow(0, first, 3);
  const auto three = [&](const Tensor& time) { return (table + time.narrow(1, first, 3)).unsqueeze(2).unsqueeze(2); };
  Tensor m = three(c.time);  // [B, 3, 1, 1, C]
  if (c.frame_mask.defined()) {
    m = at::where(run.layout->local(c.frame_mask, Axis::frames, 1).unsqueeze(1), m, three(c.time_zero));
  }
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
      if (along_ == Axis::rows) return {attn_(inner, in[0], along_, c.extent, nullptr)};
      const auto local = [&](const Tensor& table) { return inner.layout->local(table, Axis::frames, 0); };
      const Rotary rotary{local(c.rotary.cos), local(c.rotary.sin)};
      return {attn_(inner, in[0], along_, c.extent, &rotary)};
    };
    const Bracket bracket{Part::attention, along_, c.extent};
    return run.layout->around(run, bracket, {norm_(run, input, m.scale, m.shift)}, there)[0];
  };
  Tensor x = add_sublayer(
      run, input, {attn_path_, index_, kind, Point::module}, [&] { return modulation(run, c, 0); }, attend);

  const auto read = [&](const Modulation&) {
    const Tensor kv =
        c.caption.keys_values.empty() ? cross_.keys_values(run, c.caption.tokens) : c.caption.keys_values.at(index_);
    return cross_(run, x, kv, c.caption.lengths);
  };
  x = add_sublayer(
      run, x, {cross_path_, index_, Kind::cross, Point::module}, [] { return Modulation{}; }, read);

  const auto think = [&](const Modulation& m) { return mlp_(run, norm_(run, x, m.scale, m.shift)); };
  return add_sublayer(
      run, x, {mlp_path_, index_, Kind::mlp, Point::module}, [&] { return modulation(run, c, 3); }, think);
}

Tensor Block::modulated_input(const Run& run, const Tensor& x, const Conditioning& c) const {
  const Modulation m = modulation(run, c, 0);
  return norm_(run, x, m.scale, m.shift);
}

FinalLayer::FinalLayer(const Scope& scope, int64_t width, int64_t outputs)
    : scale_shift_(scope.param("scale_shift_table", {2, width}, {.init = table_init(width)})),
      norm_(scope, width, {.eps = 1e-6, .weight = false}),
      linear_(scope / "linear", width, outputs) {}

Tensor FinalLayer::operator()(const Run& run, const Tensor& x, const Conditioning& c) const {
  const Tensor table = run.weights->get(scale_shift_);
  const auto modulated = [&](const Tensor& rows, const Tensor& embed) {
    const Tensor m = (table + embed.unsqueeze(1)).unsqueeze(2).unsqueeze(2);  // [B, 2, 1, 1, C]
    return norm_(run, rows, m.select(1, 1), m.select(1, 0));
  };
  Tensor y = modulated(x, c.embed);
  // Given frames are normed again after the modulation for the others: the published weights were trained like this.
  if (c.frame_mask.defined()) {
    y = at::where(run.layout->local(c.frame_mask, Axis::frames, 1), y, modulated(y, c.embed_zero));
  }
  return linear_(run, y);
}

}  // namespace kinora::models::open_sora
