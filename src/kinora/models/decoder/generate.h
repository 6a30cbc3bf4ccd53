// From logits to tokens: greedy and sampled decoding as functions. B samples, V words.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kinora/models/decoder/decoder.h"

namespace kinora::models::decoder {

/// The most likely word of each sample: [B, V] -> [B] int64.
Tensor greedy(const Tensor& logits);

struct Sampling {
  double temperature = 1;
  int64_t top_k = 0;  ///< only the k most likely words (and what ties with the last of them); 0: all
  double top_p = 1;   ///< of those only the fewest that have this probability together (Holtzman et al. 2020)
};

/// What each word is drawn with: [B, V] -> [B, V] in float32, rows of sum 1, zero where a word is out. Throws UsageError
/// for a temperature that is not above zero, a negative top_k, a top_p outside of (0, 1].
Tensor probabilities(const Tensor& logits, const Sampling& sampling);

/// Draws a word for each sample: [B, V] -> [B] int64. With cpu_generator(seed) (tensor/random.h) the words are those that
/// transformers draws for the same logits after torch.manual_seed(seed).
Tensor sampled(const Tensor& logits, const Sampling& sampling, at::Generator& generator);

/// [B, V] -> [B] int64.
using Chooser = std::function<Tensor(const Tensor& logits)>;

struct GenerateOptions {
  int64_t max_new_tokens = 20;
  Chooser choose = greedy;
  std::vector<int64_t> eos_token_ids;  ///< a sample that gave one of them goes on with the first of them
  std::function<void(const Tensor& tokens)> on_tokens = {};  ///< told of [B] tokens as they come
};

/// Continues input_ids [B, N] -> [B, N + new], fewer than max_new_tokens new ones where all samples have ended. Tokens
/// already in the cache are not computed again: give it empty, or with the first tokens of input_ids. Throws UsageError,
/// before any work, when the model lacks positions for all tokens.
Tensor generate(const Run& run, const Decoder& decoder, const Tensor& input_ids, KvCache& cache,
                const GenerateOptions& options);

}  // namespace kinora::models::decoder
