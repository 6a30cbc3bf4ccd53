// LlamaForCausalLM and OPTForCausalLM (names and weights of transformers): token ids to logits. It keeps nothing between
// calls; keys and values are in a cache that the caller passes. B samples of equally many tokens, N new tokens, C width,
// V words.
#pragma once

#include <optional>
#include <vector>

#include "kinora/models/decoder/kv_cache.h"
#include "kinora/models/decoder/layers.h"

namespace kinora::models::decoder {

class Decoder {
 public:
  explicit Decoder(const DecoderConfig& config);
  Decoder(const Decoder&) = delete;  // what a call captures points here
  Decoder& operator=(const Decoder&) = delete;

  const DecoderConfig& config() const { return config_; }
  /// In the order of use, but for the embeddings, which come first even where they are the last product's weight too.
  const Params& params() const { return params_; }

  /// Hidden states behind the last norm, [B, N, C]. input_ids [B, N] int64 follow the tokens of the cache, whose rows
  /// come to it. Every layer runs as two stacks of one block (path "model.layers.3" and "model.layers.3.keys" in Llama):
  /// first its keys and values, then the rest of it, which reads the cache. Throws UsageError on shapes, unknown ids and
  /// more tokens than the model has positions; the cache is as it was then, as it is after a cancelled run.
  Tensor hidden_states(const Run& run, const Tensor& input_ids, KvCache& cache) const;
  /// [..., C] -> [..., V].
  Tensor logits(const Run& run, const Tensor& hidden) const;

 private:
  void check(const Tensor& ids, const KvCache& cache) const;
  Tensor embed(const Run& run, const Tensor& ids, int64_t past) const;
  Positions positions(const Tensor& ids, int64_t past) const;
  Tensor run_layer(const Run& run, int index, Tensor x, KvCache& cache, const Positions& positions) const;

  DecoderConfig config_;
  Params params_;
  Param embed_;
  std::optional<Param> embed_positions_;
  std::string layers_path_;
  std::vector<Layer> layers_;
  std::optional<Norm> norm_;
  std::optional<Param> head_;
};

}  // namespace kinora::models::decoder
