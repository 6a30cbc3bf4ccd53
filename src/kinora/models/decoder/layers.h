// One layer of a decoder: attention to all tokens so far and a feed-forward part, each with its norm before it or, in the
// smallest OPT, behind its sum. B samples, N new tokens, M tokens in all, C width, A heads, K heads of keys and values.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "kinora/models/decoder/rope.h"
#include "kinora/nn/layers.h"
#include "kinora/nn/site.h"

namespace kinora::models::decoder {

/// RMS norm in Llama, layer norm in OPT.
class Norm {
 public:
  Norm(const Scope& scope, const DecoderConfig& config);
  Tensor operator()(const Run& run, const Tensor& x) const;

 private:
  std::variant<RmsNorm, LayerNorm> norm_;
};

/// What every layer of one call reads.
struct Positions {
  Rotary rotary;  ///< of the new tokens
  Tensor mask;    ///< [N, M], true where a new token attends; undefined: everywhere
};

class Attention {
 public:
  Attention(const Scope& scope, const DecoderConfig& config);
  /// Keys and values of the new tokens: x [B, N, C] -> [2, B, K, N, D].
  Tensor keys_values(const Run& run, const Tensor& x, const Positions& positions) const;
  /// x [B, N, C], keys and values of all tokens [2, B, K, M, D] -> [B, N, C].
  Tensor operator()(const Run& run, const Tensor& x, const Tensor& rows, const Positions& positions) const;

 private:
  Tensor turned(const Tensor& heads, const Positions& positions) const;

  int64_t group_, head_dim_;
  Linear q_, k_, v_, out_;
};

/// down(activation(gate(x)) * up(x)) in Llama, down(activation(up(x))) in OPT.
class FeedForward {
 public:
  FeedForward(const Scope& scope, const DecoderConfig& config);
  Tensor operator()(const Run& run, const Tensor& x) const;

 private:
  ops::Activation activation_;
  std::optional<Linear> gate_;
  Linear up_, down_;
};

/// In two parts, so that the caller can put the new keys and values into its cache between them and neither writes.
class Layer {
 public:
  Layer(const Scope& scope, const DecoderConfig& config, int index);
  /// x [B, N, C] -> [2, B, K, N, D].
  Tensor keys_values(const Run& run, const Tensor& x, const Positions& positions) const;
  /// x [B, N, C], rows [2, B, K, M, D] -> [B, N, C]. Sites: self_attn, and mlp where Llama has it.
  Tensor operator()(const Run& run, const Tensor& x, const Tensor& rows, const Positions& positions) const;

 private:
  Tensor summed(const Run& run, const Tensor& x, const SiteKey& key, const Norm& norm,
                c10::function_ref<Tensor(const Tensor&)> compute) const;

  int index_;
  std::string attention_path_, mlp_path_;
  bool is_norm_before_;
  Norm attention_norm_;
  Attention attention_;
  Norm mlp_norm_;
  FeedForward mlp_;
};

}  // namespace kinora::models::decoder
