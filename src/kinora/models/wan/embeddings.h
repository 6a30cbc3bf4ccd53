// What Wan's blocks read besides the video: time, text, features of an image, positions.
// B batch, L text tokens, M rows of image features, T frames and S patches of a frame, C width, D width of a head.
#pragma once

#include <optional>

#include "kinora/models/common/embeddings.h"
#include "kinora/models/common/positions.h"
#include "kinora/models/wan/config.h"

namespace kinora::models::wan {

/// Features of an image, or of the first and the last frame, as rows that blocks attend to. "norm1", "ff.net.0.proj",
/// "ff.net.2", "norm2", and "pos_embed" [1, pos_embed_seq_len, image_dim] where two images have to be told apart.
class ImageEmbedding {
 public:
  ImageEmbedding(const Scope& scope, const WanConfig& config);
  /// [B, M, image_dim] -> [B, M, C]. With learned positions the rows of a sample's two images may come as two samples,
  /// one after the other.
  Tensor operator()(const Run& run, const Tensor& features) const;

 private:
  std::optional<Param> positions_;
  LayerNorm norm1_;
  Mlp ff_;
  LayerNorm norm2_;
};

/// "time_embedder", "time_proj", "text_embedder", and "image_embedder" where the model takes features of an image.
class ConditionEmbedder {
 public:
  ConditionEmbedder(const Scope& scope, const WanConfig& config);
  /// t [...], any dtype -> [..., C] in `dtype`.
  Tensor time(const Run& run, const Tensor& t, at::ScalarType dtype) const;
  /// What modulates the blocks: [..., C] -> [..., 6 C].
  Tensor time_projection(const Run& run, const Tensor& time_embed) const;
  /// [B, L, text_dim] -> [B, L, C].
  Tensor text(const Run& run, const Tensor& rows) const { return text_embedder_(run, rows); }
  /// See ImageEmbedding; only where the model takes features of an image.
  Tensor image(const Run& run, const Tensor& features) const { return (*image_embedder_)(run, features); }

 private:
  int64_t frequencies_;
  TimestepEmbedding time_embedder_;
  Linear time_proj_;
  Mlp text_embedder_;
  std::optional<ImageEmbedding> image_embedder_;
};

/// Rotary tables [T, S, D / 2], S = h w, in float32: rows and columns each turn D / 6 of a head's pairs, rounded down,
/// frames the rest before them. Angles are float64.
RotaryTable rotary_positions(int64_t head_dim, int64_t frames, int64_t h, int64_t w, at::Device device = at::kCPU);

}  // namespace kinora::models::wan
