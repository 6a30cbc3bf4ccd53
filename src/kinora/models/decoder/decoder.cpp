#include "kinora/models/decoder/decoder.h"

#include <utility>

#include "kinora/base/error.h"

namespace kinora::models::decoder {
namespace {

/// The rows of OPT's table before that of the first token.
constexpr int64_t kPositionOffset = 2;

}  // namespace

Decoder::Decoder(const DecoderConfig& config) : config_(config) {
  const bool is_opt = config.family == Family::opt;
  const Scope root(params_), model = is_opt ? root / "model" / "decoder" : root / "model", layers = model / "layers";
  const ParamOptions small{.init = init::normal(0.02)};
  embed_ = (model / "embed_tokens").param("weight", {config.vocab_size, config.hidden_size}, small);
  if (is_opt) {
    embed_positions_ =
        (model / "embed_positions")
            .param("weight", {config.max_position_embeddings + kPositionOffset, config.hidden_size}, small);
  }
  layers_path_ = layers.path();
  for (int i = 0; i < config.num_hidden_layers; ++i) layers_.emplace_back(layers / i, config, i);
  if (config.final_norm) norm_.emplace(model / (is_opt ? "final_layer_norm" : "norm"), config);
  if (!config.tie_word_embeddings) {
    head_ = (root / "lm_head").param("weight", {config.vocab_size, config.hidden_size}, small);
  }
}

void Decoder::check(const Tensor& ids, const KvCache& cache) const {
  if (ids.dim() != 2 || ids.numel() == 0 || ids.scalar_type() != at::kLong) {
    throw UsageError(concat("decoder: input_ids are ", ids.scalar_type(), " ", ids.sizes()),
                     "give int64 [batch, tokens]");
  }
  const int64_t total = cache.length() + ids.size(1);
  if (total > config_.max_position_embeddings) {
    throw UsageError(concat("decoder: ", total, " tokens"),
                     concat("this model has ", config_.max_position_embeddings, " positions"));
  }
  if (!ids.is_cpu()) return;  // reading them back would wait for the device
  const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
  if (low < 0 || high >= config_.vocab_size) {
    throw UsageError(
        concat("decoder: token id ", low < 0 ? low : high, " is outside the vocabulary of ", config_.vocab_size),
        "use the tokenizer that belongs to this model");
  }
}

Tensor Decoder::embed(const Run& run, const Tensor& ids, int64_t past) const {
  const Tensor x = at::embedding(run.weights->get(embed_), ids);
  if (!embed_positions_) return x;
  return x + run.weights->get(*embed_positions_).narrow(0, past + kPositionOffset, ids.size(1));
}

Positions Decoder::positions(const Tensor& ids, int64_t past) const {
  const int64_t n = ids.size(1);
  Positions p;
  if (config_.family == Family::llama) p.rotary = rotary_of(config_, past, n, ids.device());
  if (n > 1) {  // a single token attends to all before it
    const at::TensorOptions place = ids.options();
    p.mask = at::arange(past + n, place) <= at::arange(past, past + n, place).unsqueeze(1);
  }
  return p;
}

// Two stacks: what runs blocks as graphs must see no write, and the cache is written between them.
Tensor Decoder::run_layer(const Run& run, int index, Tensor x, KvCache& cache, const Positions& p) const {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const std::string path = concat(layers_path_, ".", index), keys_path = path + ".keys";
  const Stack keys{.path = keys_path,
                   .blocks = 1,
                   .block = [&](const Run& r, int, Streams in) -> Streams { return {layer.keys_values(r, in[0], p)}; },
                   .probe = {},
                   .conditioning = {p.rotary.cos, p.rotary.sin}};
  const Tensor rows = cache.append(index, stack(run, keys, {x})[0]);
  const Stack rest{.path = path,
                   .blocks = 1,
                   .block = [&](const Run& r, int, Streams in) -> Streams { return {layer(r, in[0], rows, p)}; },
                   .probe = {},
                   .conditioning = {p.rotary.cos, p.rotary.sin, p.mask, rows}};
  return stack(run, rest, {std::move(x)})[0];
}

Tensor Decoder::hidden_states(const Run& run, const Tensor& input_ids, KvCache& cache) const {
  check(input_ids, cache);
  const Positions p = positions(input_ids, cache.length());
  Tensor x = embed(run, input_ids, cache.length());
  for (int i = 0; i < config_.num_hidden_layers; ++i) x = run_layer(run, i, std::move(x), cache, p);
  cache.advance(input_ids.size(1));
  return norm_ ? (*norm_)(run, x) : x;
}

Tensor Decoder::logits(const Run& run, const Tensor& hidden) const {
  return run.weights->linear(hidden, head_ ? *head_ : embed_, nullptr);
}

}  // namespace kinora::models::decoder
