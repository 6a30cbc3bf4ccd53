// Wan's blocks: attention over all rows of the video, attention to text and image, a feed-forward layer; the first and
// the last are modulated by the timestep (adaLN-single, Chen et al. 2023).
// B batch, T frames, S patches of a frame (this rank's), M + L rows of image and text, C width, A heads, D = C / A.
#pragma once

#include <optional>
#include <string>

#include "kinora/models/common/feed_forward.h"
#include "kinora/models/common/sublayer.h"
#include "kinora/models/wan/embeddings.h"
#include "kinora/nn/site.h"

namespace kinora::models::wan {

/// What both attentions of a block are made of; queries and keys pass an RMS norm over all heads at once.
/// "to_q", "to_k", "to_v", "norm_q", "norm_k", "to_out.0".
struct Projections {
  Projections(const Scope& scope, int64_t width, double eps);
  Linear q, k, v;
  RmsNorm q_norm, k_norm;
  Linear out;
};

/// Every video row of a sample attends to all of them, through the layout.
class SelfAttention {
 public:
  SelfAttention(const Scope& scope, int64_t width, int64_t head_dim, double eps);
  /// x [B, T, S, C], rotary: tables of all rows -> the shape of x.
  Tensor operator()(const Run& run, const Tensor& x, const RotaryTable& rotary, const Extent& extent) const;

 private:
  Tensor attend(const Run& run, const Tensor& x, const RotaryTable& rotary, const Extent& extent) const;

  int64_t head_dim_;
  Projections layers_;
};

/// What video rows attend to, the same on every rank.
struct Context {
  Tensor rows;             ///< [B, M + L, C], the image's before the text's
  int64_t image_rows = 0;  ///< so many of them go to keys and values of their own, in models that have those
};

/// Every video row attends to text and image: where the model has keys and values for the image ("add_k_proj",
/// "add_v_proj", "norm_added_k"), to each apart, and both results are added.
class CrossAttention {
 public:
  CrossAttention(const Scope& scope, int64_t width, int64_t head_dim, double eps, bool has_image);
  /// x [B, T, S, C] -> the shape of x.
  Tensor operator()(const Run& run, const Tensor& x, const Context& context) const;

 private:
  struct OfImage {
    Linear k, v;
    RmsNorm k_norm;
  };
  static std::optional<OfImage> of_image(bool wanted, const Scope& scope, int64_t width, double eps);
  Tensor attend(const Run& run, const Tensor& q, const Tensor& rows, const Linear& k, const RmsNorm& k_norm,
                const Linear& v) const;

  int64_t head_dim_;
  Projections layers_;
  std::optional<OfImage> image_;
};

/// What all blocks of one model call share.
struct Conditioning {
  Tensor time_embed;       ///< [B or 1, C]; where each row of the video has a timestep of its own, [B, T, S, C]
  Tensor time_projection;  ///< the same with 6 C: what modulates
  Context context;
  RotaryTable rotary;  ///< of all rows
  Extent extent;
};

/// One of a sample, [B, C], or of every row, [B, T, S, C], against rows [B, T, S, C].
inline Tensor for_rows(const Tensor& t) { return t.dim() == 2 ? t.unsqueeze(1).unsqueeze(1) : t; }

class Block {
 public:
  Block(const Scope& scope, const WanConfig& config, int index);
  /// x [B, T, S, C] -> the same. Sites: attn1, attn2, ffn.
  Tensor operator()(const Run& run, const Tensor& x, const Conditioning& c) const;
  /// What enters the self-attention.
  Tensor modulated_input(const Run& run, const Tensor& x, const Conditioning& c) const;

 private:
  Tensor compute(const Run& run, const Tensor& input, const Conditioning& c) const;
  /// [B, T or 1, S or 1, C] each. first: 0 before the self-attention, 3 before the feed-forward layer.
  Modulation modulation(const Run& run, const Conditioning& c, int64_t first) const;

  int index_;
  std::string attn1_path_, attn2_path_, ffn_path_;
  Param scale_shift_;
  LayerNorm norm_;  // no weights, so one serves both modulated places
  SelfAttention attn1_;
  std::optional<LayerNorm> norm2_;
  CrossAttention attn2_;
  FeedForward ffn_;
};

}  // namespace kinora::models::wan
