#include "kinora/models/decoder/generate.h"

#include <cmath>
#include <limits>

#include "kinora/base/error.h"

namespace kinora::models::decoder {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

void check(const Sampling& s) {
  if (!(s.temperature > 0) || !std::isfinite(s.temperature)) {
    throw UsageError(concat("temperature ", s.temperature), "give one above zero; greedy decoding has none");
  }
  if (s.top_k < 0) throw UsageError(concat("top_k ", s.top_k), "give 0 (all words) or more");
  if (!(s.top_p > 0 && s.top_p <= 1)) throw UsageError(concat("top_p ", s.top_p), "give one above 0, at most 1");
}

Tensor keep_top_k(const Tensor& scores, int64_t k) {
  const Tensor least = std::get<0>(scores.topk(std::min(k, scores.size(-1)), -1)).narrow(-1, -1, 1);
  return scores.masked_fill(scores < least, kNever);
}

/// From the least likely word on, words are out as long as they have at most 1 - p together; the most likely one stays.
Tensor keep_top_p(const Tensor& scores, double p) {
  const auto [sorted, order] = scores.sort(-1, false);
  Tensor out = sorted.softmax(-1).cumsum(-1) <= 1 - p;
  out.narrow(-1, -1, 1).fill_(false);
  return scores.masked_fill(at::scatter(out, -1, order, out), kNever);
}

void check(const Decoder& decoder, const Tensor& ids, const KvCache& cache, const GenerateOptions& options) {
  if (options.max_new_tokens < 1) {
    throw UsageError(concat("max_new_tokens ", options.max_new_tokens), "give 1 or more");
  }
  if (ids.dim() != 2 || cache.length() >= ids.size(1)) {
    throw UsageError(concat("generate: input_ids ", ids.sizes(), " and a cache of ", cache.length(), " tokens"),
                     "give [batch, tokens], of which the cache has fewer");
  }
  const int64_t total = ids.size(1) + options.max_new_tokens - 1;  // the last one is never read
  const int64_t positions = decoder.config().max_position_embeddings;
  if (total > positions) {
    throw UsageError(concat("generate: ", ids.size(1), " tokens and ", options.max_new_tokens, " new ones"),
                     concat("this model has ", positions, " positions"));
  }
}

}  // namespace

Tensor greedy(const Tensor& logits) { return logits.argmax(-1); }

Tensor probabilities(const Tensor& logits, const Sampling& sampling) {
  check(sampling);
  Tensor scores = logits.to(at::kFloat) / sampling.temperature;
  if (sampling.top_k > 0) scores = keep_top_k(scores, sampling.top_k);
  if (sampling.top_p < 1) scores = keep_top_p(scores, sampling.top_p);
  return scores.softmax(-1);
}

Tensor sampled(const Tensor& logits, const Sampling& sampling, at::Generator& generator) {
  // Drawn on the CPU, so that a seed means the same text on every device.
  const Tensor drawn = at::multinomial(probabilities(logits, sampling).cpu(), 1, false, generator);
  return drawn.squeeze(-1).to(logits.device());
}

Tensor generate(const Run& run, const Decoder& decoder, const Tensor& input_ids, KvCache& cache,
                const GenerateOptions& options) {
  check(decoder, input_ids, cache, options);
  const std::vector<int64_t>& eos = options.eos_token_ids;
  const Tensor ends = eos.empty() ? Tensor() : at::tensor(eos, at::kLong).to(input_ids.device());
  Tensor ended = at::zeros({input_ids.size(0)}, input_ids.options().dtype(at::kBool));
  Tensor ids = input_ids, next = input_ids.narrow(1, cache.length(), input_ids.size(1) - cache.length());
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    const Tensor last = decoder.hidden_states(run, next, cache).select(1, -1);
    Tensor tokens = options.choose(decoder.logits(run, last));
    if (ends.defined()) {
      tokens = tokens.masked_fill(ended, eos[0]);
      ended = ended.logical_or(at::isin(tokens, ends));
    }
    if (options.on_tokens) options.on_tokens(tokens);
    next = tokens.unsqueeze(1);
    ids = at::cat({ids, next}, 1);
    if (ends.defined() && ended.all().item<bool>()) break;
  }
  return ids;
}

}  // namespace kinora::models::decoder
