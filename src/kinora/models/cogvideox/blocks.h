// CogVideoX's blocks: expert adaptive layer norm, joint attention over video and text, a feed-forward layer for both.
// B batch, T frames, S patches of a frame (this rank's), L text tokens, C width, A heads, D = C / A, E width of the
// time embedding.
#pragma once

#include <string>

#include "kinora/models/cogvideox/config.h"
#include "kinora/models/common/positions.h"
#include "kinora/models/common/sublayer.h"

namespace kinora::models::cogvideox {

/// One norm for both streams, each modulated by its own part of linear(silu(time embedding)). "linear", "norm".
class LayerNormZero {
 public:
  LayerNormZero(const Scope& scope, int64_t time_width, int64_t width, bool affine, double eps);
  /// time_embed [B or 1, E] -> of video [B or 1, 1, 1, C] each, of text [B or 1, 1, C].
  Modulations modulation(const Run& run, const Tensor& time_embed) const;
  /// {video [B, T, S, C], text [B, L, C]} -> the same shapes.
  Streams norm(const Run& run, const Streams& streams, const Modulations& m) const;

 private:
  Linear linear_;
  LayerNorm norm_;
};

/// "to_q", "to_k", "to_v", "norm_q", "norm_k", "to_out.0": text and video attend to each other through the layout;
/// queries and keys pass a layer norm per head, video ones are rotated where a table is given.
class JointAttention {
 public:
  JointAttention(const Scope& scope, int64_t width, int64_t head_dim, bool bias);
  /// rotary: tables [T, S, D / 2] of all rows, or null.
  Streams operator()(const Run& run, const Streams& streams, const RotaryTable* rotary, const Extent& extent) const;

 private:
  Streams attend(const Run& run, const Streams& streams, const RotaryTable* rotary, const Extent& extent) const;
  struct HeadNorm {
    Param weight, bias;
  };
  static HeadNorm head_norm(const Scope& scope, int64_t head_dim);
  Heads heads(const Run& run, const Tensor& rows, const RotaryTable* rotary) const;

  int64_t head_dim_;
  Linear q_, k_, v_;
  HeadNorm q_norm_, k_norm_;
  Linear out_;
};

/// What all blocks of one model call share.
struct Conditioning {
  Tensor time_embed;   ///< [B or 1, E]
  RotaryTable rotary;  ///< of all rows; undefined: no rotation
  Extent extent;
};

class Block {
 public:
  Block(const Scope& scope, const CogVideoXConfig& config, int index);
  /// {video [B, T, S, C], text [B, L, C]} -> the same. Sites: attn1, ff; values of both are the two streams.
  Streams operator()(const Run& run, Streams streams, const Conditioning& c) const;
  /// The video rows that enter the attention.
  Tensor modulated_input(const Run& run, const Streams& streams, const Conditioning& c) const;

 private:
  Streams compute(const Run& run, Streams streams, const Conditioning& c) const;

  int index_;
  std::string attn_path_, ff_path_;
  LayerNormZero norm1_;
  JointAttention attn1_;
  LayerNormZero norm2_;
  FeedForward ff_;
};

}  // namespace kinora::models::cogvideox
