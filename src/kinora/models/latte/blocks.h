// Latte's blocks: a spatial one lets the rows of a frame see each other and the caption, a temporal one the same row of
// all frames; both end in a feed-forward layer. B batch, T frames, S patches of a frame, L text tokens, C width, D width
// of a head.
#pragma once

#include <optional>
#include <string>

#include "kinora/models/common/sublayer.h"
#include "kinora/models/latte/config.h"

namespace kinora::models::latte {

/// "to_q", "to_k", "to_v", "to_out.0".
class Attention {
 public:
  Attention(const Scope& scope, int64_t width, int64_t head_dim, bool bias);
  /// Rows attend to each other along one axis: x [B, T, S, C] -> the same.
  Tensor self(const Run& run, const Tensor& x, Axis along, const Extent& extent) const;
  /// Rows x [B, T, S, C] attend to text [B, L, C] -> the shape of x. bias [B, 1 or T, 1, L] is added to the scores, or
  /// undefined.
  Tensor cross(const Run& run, const Tensor& x, const Tensor& text, const Tensor& bias) const;

 private:
  Tensor heads(const Tensor& rows) const;

  int64_t head_dim_;
  Linear q_, k_, v_, out_;
};

/// What all blocks of one model call share.
struct Conditioning {
  Extent extent;
  Tensor time;       ///< [B or 1, 6, C], what modulates
  Tensor text;       ///< [B, L, C]
  Tensor text_bias;  ///< [B, 1 or T, 1, L], all frames; undefined: every token takes part
};

class Block {
 public:
  /// "transformer_blocks.3" (along rows) or "temporal_transformer_blocks.3" (along frames); `index` counts both kinds,
  /// in the order in which they run.
  Block(const Scope& scope, const LatteConfig& config, Axis along, int index);
  /// x [B, T, S, C] -> the same. Sites: attn1, in spatial blocks attn2, ff.
  Tensor operator()(const Run& run, const Tensor& x, const Conditioning& c) const;
  /// What enters the self-attention.
  Tensor modulated_input(const Run& run, const Tensor& x, const Conditioning& c) const;

 private:
  Tensor compute(const Run& run, const Tensor& input, const Conditioning& c) const;
  /// first: 0 before the self-attention, 3 before the feed-forward layer. -> [B or 1, 1, 1, C] each.
  Modulation modulation(const Run& run, const Conditioning& c, int64_t first) const;

  Axis along_;
  int index_;
  std::string attn1_path_, attn2_path_, ff_path_;
  Param scale_shift_;
  LayerNorm norm1_;
  Attention attn1_;
  std::optional<Attention> attn2_;
  LayerNorm norm2_;
  FeedForward ff_;
};

}  // namespace kinora::models::latte
