#include "kinora/text/t5.h"

#include <cmath>
#include <limits>

#include "kinora/base/error.h"
#include "kinora/ops/attention.h"
#include "kinora/ops/residual.h"

namespace kinora::text {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 17;
constexpr int64_t kMaxVocabulary = int64_t{1} << 22;

LinearOptions no_bias(double std) { return {.bias = false, .init = init::normal(std)}; }

double inverse_sqrt(int64_t n) { return 1.0 / std::sqrt(static_cast<double>(n)); }

/// "relu", "gated-gelu", ...: transformers builds the block from this one word, with its tanh form for gated-gelu.
void read_activation(const std::string& word, std::string_view what, T5Config& config) {
  const std::string_view prefix = "gated-";
  config.gated = word.starts_with(prefix);
  const std::string name = config.gated ? word.substr(prefix.size()) : word;
  if (name == "relu") {
    config.activation = ops::Activation::relu;
  } else if (name == "gelu_new" || (config.gated && name == "gelu")) {
    config.activation = ops::Activation::gelu_tanh;
  } else if (name == "gelu") {
    config.activation = ops::Activation::gelu;
  } else if (name == "silu") {
    config.activation = ops::Activation::silu;
  } else {
    throw DataError(concat(what, ": feed_forward_proj is \"", word, "\""),
                    "relu, gelu, gelu_new and silu are known, each also as gated-...");
  }
}

/// t5, mt5 or umt5. Some exports say model_type t5 for a UMT5 encoder and tell the truth in `architectures` only.
std::string model_type(const JsonObject& object) {
  const std::string type = object.string_or("model_type", "t5");
  if (type != "t5" && type != "mt5" && type != "umt5") {
    throw DataError(concat(object.what(), ": model_type is \"", type, "\""),
                    "t5, mt5 and umt5 are encoders of this kind");
  }
  const auto architectures = object.strings_or("architectures", {});
  return !architectures.empty() && architectures[0].starts_with("UMT5") ? "umt5" : type;
}

void check_inputs(const Tensor& ids, const Tensor& mask, int64_t vocab_size) {
  if (ids.dim() != 2 || ids.numel() == 0 || ids.scalar_type() != at::kLong) {
    throw UsageError(concat("T5: input_ids are ", ids.scalar_type(), " ", ids.sizes()), "give int64 [batch, tokens]");
  }
  if (mask.defined() && mask.sizes() != ids.sizes()) {
    throw UsageError(concat("T5: attention_mask is ", mask.sizes(), " where input_ids are ", ids.sizes()));
  }
  if (!ids.is_cpu()) return;  // reading them back would wait for the device
  const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
  if (low < 0 || high >= vocab_size) {
    throw UsageError(concat("T5: token id ", low < 0 ? low : high, " is outside the vocabulary of ", vocab_size),
                     "use the tokenizer that belongs to this encoder");
  }
}

}  // namespace

T5Config T5Config::from_json(const Json& json, std::string_view what) {
  const JsonObject object(json, std::string(what));
  const std::string type = model_type(object);
  T5Config c;
  c.bias_per_layer = type == "umt5";
  if (type != "t5") {  // the defaults of transformers' MT5Config and UMT5Config
    c.vocab_size = 250112;
    c.d_ff = 1024;
    c.num_layers = 8;
    c.num_heads = 6;
  }
  c.vocab_size = object.int_or("vocab_size", c.vocab_size, 1, kMaxVocabulary);
  c.d_model = object.int_or("d_model", c.d_model, 1, kMaxWidth);
  c.d_kv = object.int_or("d_kv", c.d_kv, 1, kMaxWidth);
  c.d_ff = object.int_or("d_ff", c.d_ff, 1, kMaxWidth);
  c.num_layers = object.int_or("num_layers", c.num_layers, 1, 1024);
  c.num_heads = object.int_or("num_heads", c.num_heads, 1, 1024);
  c.num_buckets = object.int_or("relative_attention_num_buckets", c.num_buckets, 4, 1 << 16);
  c.max_distance = object.int_or("relative_attention_max_distance", c.max_distance, 1, 1 << 20);
  // The logarithmic half needs room beyond the exact one, which ends at a quarter of the buckets.
  if (c.max_distance <= c.num_buckets / 4) {
    throw DataError(concat(what, ": relative_attention_max_distance is ", c.max_distance, ", too little for ",
                           c.num_buckets, " buckets"),
                    concat("with so many it is at least ", c.num_buckets / 4 + 1));
  }
  c.layer_norm_epsilon = object.number_or("layer_norm_epsilon", c.layer_norm_epsilon);
  if (c.layer_norm_epsilon <= 0) {
    throw DataError(concat(what, ": layer_norm_epsilon is ", c.layer_norm_epsilon), "it is above zero, such as 1e-6");
  }
  read_activation(object.string_or("feed_forward_proj", type == "t5" ? "relu" : "gated-gelu"), what, c);
  return c;
}

double t5_flops(const T5Config& config, int64_t tokens, int64_t batch) {
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const double l = real(tokens), c = real(config.d_model), f = real(config.d_ff);
  const double inner = real(config.num_heads * config.d_kv);
  const double layer = 8 * l * c * inner + 4 * l * l * inner + 2 * l * c * f * (config.gated ? 3 : 2);
  return real(batch * config.num_layers) * layer;
}

Tensor relative_position_bucket(const Tensor& relative_position, bool bidirectional, int64_t num_buckets,
                                int64_t max_distance) {
  Tensor offset = at::zeros_like(relative_position);
  Tensor distance;
  if (bidirectional) {
    num_buckets /= 2;
    offset = relative_position.gt(0).to(at::kLong) * num_buckets;
    distance = relative_position.abs();
  } else {
    distance = (-relative_position).clamp_min(0);
  }
  const int64_t exact = num_buckets / 2;
  // In float32, as published models were trained: a wider logarithm moves some bucket edges by one. Clamped to one so
  // that distance 0, which `where` drops, makes no infinity.
  const double range = std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  const Tensor steps = at::log(distance.clamp_min(1).to(at::kFloat) / exact) / range * (num_buckets - exact);
  const Tensor far = (steps.to(at::kLong) + exact).clamp_max(num_buckets - 1);
  return offset + at::where(distance.lt(exact), distance, far);
}

T5Encoder::T5Encoder(const T5Config& config) : config_(config) {
  const Scope root(params_);
  shared_ = root.param("shared.weight", {config.vocab_size, config.d_model},
                       {.init = init::normal(1.0), .aliases = {"encoder.embed_tokens.weight"}});
  const Scope encoder = root / "encoder";
  for (int64_t i = 0; i < config.num_layers; ++i) blocks_.push_back(make_block(encoder / "block" / i / "layer", i));
  final_norm_.emplace(encoder / "final_layer_norm", config.d_model, config.layer_norm_epsilon);
}

// First values as T5 draws them (Mesh TensorFlow's, initializer_factor 1): attention scores are not scaled by
// 1/sqrt(d_kv), so the queries' weights are.
T5Encoder::Block T5Encoder::make_block(const Scope& scope, int64_t index) const {
  const T5Config& c = config_;
  const Scope attention = scope / 0 / "SelfAttention", mlp = scope / 1 / "DenseReluDense";
  const int64_t inner = c.num_heads * c.d_kv;
  const LinearOptions from_model = no_bias(inverse_sqrt(c.d_model));
  Linear q(attention / "q", c.d_model, inner, no_bias(inverse_sqrt(c.d_model) * inverse_sqrt(c.d_kv)));
  Linear k(attention / "k", c.d_model, inner, from_model);
  Linear v(attention / "v", c.d_model, inner, from_model);
  Linear o(attention / "o", inner, c.d_model, no_bias(inverse_sqrt(inner)));
  std::optional<Param> bias;
  if (index == 0 || c.bias_per_layer) {
    bias = (attention / "relative_attention_bias")
               .param("weight", {c.num_buckets, c.num_heads}, {.init = init::normal(inverse_sqrt(c.d_model))});
  }
  RmsNorm attention_norm(scope / 0 / "layer_norm", c.d_model, c.layer_norm_epsilon);
  Linear wi(mlp / (c.gated ? "wi_0" : "wi"), c.d_model, c.d_ff, from_model);
  std::optional<Linear> wi_1;
  if (c.gated) wi_1.emplace(mlp / "wi_1", c.d_model, c.d_ff, from_model);
  Linear wo(mlp / "wo", c.d_ff, c.d_model, no_bias(inverse_sqrt(c.d_ff)));
  RmsNorm mlp_norm(scope / 1 / "layer_norm", c.d_model, c.layer_norm_epsilon);
  return {.attention_norm = attention_norm,
          .q = q,
          .k = k,
          .v = v,
          .o = o,
          .bias = bias,
          .mlp_norm = mlp_norm,
          .wi = wi,
          .wi_1 = wi_1,
          .wo = wo};
}

Tensor T5Encoder::embed(const Run& run, const Tensor& input_ids) const {
  return at::embedding(run.weights->get(shared_), input_ids);
}

// [B or 1, A, L, L], additive. The bias depends on key - query alone: 2 L - 1 values a head, of which row i of the
// matrix is the window that begins at L - 1 - i.
Tensor T5Encoder::attention_bias(const Run& run, const Block& block, const Tensor& input_ids,
                                 const Tensor& attention_mask) const {
  const int64_t length = input_ids.size(1);
  const Tensor distances = at::arange(1 - length, length, at::kLong);
  const Tensor buckets = relative_position_bucket(distances, true, config_.num_buckets, config_.max_distance);
  const Tensor values =
      at::embedding(run.weights->get(*block.bias), buckets.to(input_ids.device())).t();  // [A, 2 L - 1]
  const Tensor bias = values.unfold(1, length, 1).flip({1}).unsqueeze(0);
  if (!attention_mask.defined()) return bias;
  // The lowest finite value, not -inf: a sample whose tokens are all masked then averages them instead of giving NaN.
  const double lowest =
      bias.scalar_type() == at::kHalf ? -65504.0 : static_cast<double>(std::numeric_limits<float>::lowest()) / 2;
  return bias.masked_fill(attention_mask.eq(0).to(bias.device()).unsqueeze(1).unsqueeze(1), lowest);
}

Tensor T5Encoder::attend(const Run& run, const Block& block, const Tensor& x, const Tensor& bias) const {
  const auto heads = [&](const Linear& linear) {
    return linear(run, x).unflatten(-1, {-1, config_.d_kv}).transpose(1, 2);
  };
  const Tensor y = ops::attention(heads(block.q), heads(block.k), heads(block.v), bias, 1.0);
  return block.o(run, y.transpose(1, 2).flatten(2));
}

Tensor T5Encoder::feed_forward(const Run& run, const Block& block, const Tensor& x) const {
  Tensor hidden = ops::activate(block.wi(run, x), config_.activation);
  if (block.wi_1) hidden = hidden * (*block.wi_1)(run, x);
  return block.wo(run, hidden);
}

Stack T5Encoder::make_stack(const Run& run, const Tensor& input_ids, const Tensor& attention_mask) const {
  const Tensor first_bias = attention_bias(run, blocks_[0], input_ids, attention_mask);
  const auto block = [this, input_ids, attention_mask, first_bias](const Run& r, int index,
                                                                   Streams streams) -> Streams {
    const Block& b = blocks_[static_cast<size_t>(index)];
    const bool own = index > 0 && b.bias.has_value();
    const Tensor bias = own ? attention_bias(r, b, input_ids, attention_mask) : first_bias;
    Tensor x = streams[0];
    x = ops::add_residual(x, attend(r, b, b.attention_norm(r, x), bias));
    return {ops::add_residual(x, feed_forward(r, b, b.mlp_norm(r, x)))};
  };
  return {.path = "encoder.block", .blocks = static_cast<int>(blocks_.size()), .block = block, .probe = {}};
}

Tensor T5Encoder::forward(const Run& run, const Tensor& input_ids, const Tensor& attention_mask) const {
  check_inputs(input_ids, attention_mask, config_.vocab_size);
  const Stack blocks = make_stack(run, input_ids, attention_mask);
  return (*final_norm_)(run, stack(run, blocks, {embed(run, input_ids)})[0]);
}

std::vector<Tensor> T5Encoder::hidden_states(const Run& run, const Tensor& input_ids,
                                             const Tensor& attention_mask) const {
  check_inputs(input_ids, attention_mask, config_.vocab_size);
  const Stack blocks = make_stack(run, input_ids, attention_mask);
  std::vector<Tensor> states{embed(run, input_ids)};
  for (int i = 0; i < blocks.blocks; ++i) states.push_back(run_blocks(run, blocks, i, i + 1, {states.back()})[0]);
  states.back() = (*final_norm_)(run, states.back());
  return states;
}

}  // namespace kinora::text
