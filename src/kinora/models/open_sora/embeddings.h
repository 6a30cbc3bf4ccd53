// What goes into STDiT3's blocks: patches, positions, time, frame rate and captions (Open-Sora 1.2, as VideoSys runs
// it). B batch, T frames, S patches of a frame, C width, L text tokens.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "kinora/models/open_sora/config.h"
#include "kinora/nn/layers.h"

namespace kinora::models::open_sora {

/// x [B, channels, frames, height, width] -> [B, T, S, C], padded behind with zeros to whole patches. "proj.weight",
/// "proj.bias".
class PatchEmbed {
 public:
  PatchEmbed(const Scope& scope, const std::array<int64_t, 3>& patch, int64_t channels, int64_t width);
  Tensor operator()(const Run& run, const Tensor& x) const;
  const Param& weight() const { return weight_; }

 private:
  Param weight_, bias_;
};

/// [cos(t g) | sin(t g)] in float32, g_i = 10000^(-i / (width / 2)); an odd width ends in a zero. t [N] -> [N, width].
Tensor scalar_frequencies(const Tensor& t, int64_t width);

/// A number as a vector: its frequencies through Linear, SiLU, Linear; the timestep and the frame rate each have one.
/// "mlp.0", "mlp.2".
class ScalarEmbedder {
 public:
  static constexpr int64_t kFrequencies = 256;
  ScalarEmbedder(const Scope& scope, int64_t width, int64_t frequencies = kFrequencies,
                 Init first = init::xavier_uniform, Init second = init::xavier_uniform);
  /// t [N] -> [N, width] in `dtype`.
  Tensor operator()(const Run& run, const Tensor& t, at::ScalarType dtype) const;

 private:
  int64_t frequencies_;
  Linear first_, second_;
};

/// Captions that blocks attend to: the tokens of all samples one after the other, without padding.
struct Caption {
  Tensor tokens;                 ///< [1, sum(lengths), C]
  std::vector<int64_t> lengths;  ///< of each sample
  std::vector<Tensor>
      keys_values;  ///< of each block [1, sum(lengths), 2 C]; empty: blocks make their own in every call
};

/// Tokens of captions [B, 1, L, channels] (or [B, L, channels]) that the mask keeps, [sum(lengths), channels], and the
/// lengths. mask [B or fewer, L]: other than zero keeps; fewer rows repeat as a whole, so that a null caption is cut as
/// its prompt is; undefined keeps all. Throws UsageError for shapes that do not fit and for a caption without a token.
struct PackedCaption {
  Tensor tokens;
  std::vector<int64_t> lengths;
};
PackedCaption pack_caption(const Tensor& caption, const Tensor& mask);

/// fc2(gelu_tanh(fc1(y))) of text features, and the null caption that stands for "no text".
/// "y_embedding" [tokens, channels], "y_proj.fc1", "y_proj.fc2".
class CaptionEmbedder {
 public:
  CaptionEmbedder(const Scope& scope, int64_t channels, int64_t width, int64_t tokens);
  /// y [..., channels] -> [..., C].
  Tensor operator()(const Run& run, const Tensor& y) const;
  /// [tokens, channels]; not trained.
  const Param& null_caption() const { return null_; }

 private:
  Param null_;
  Mlp projection_;
};

/// Sine-cosine positions of a frame of h x w patches, [1, h w, width], columns before rows: [sin u f | cos u f | sin v
/// f | cos v f] with u = column / scale * base / w, v = row / scale * base / h (no base: without that factor), f_k =
/// 10000^(-2 k / (width / 2)). The frequencies are rounded to `options`' dtype before the product, as the reference's
/// buffer is.
Tensor position_table(int64_t h, int64_t w, int64_t width, double scale, std::optional<double> base,
                      const at::TensorOptions& options);

/// Rotary tables [rows, D / 2] of rows 0, 1, ...
struct Rotary {
  Tensor cos, sin;
};

/// 10000^(-2 i / head_dim), float32 [head_dim / 2]: the published rope.freqs.
Tensor rotary_frequencies(int64_t head_dim);
/// Positions, angles, cosines and sines all in the dtype of `frequencies`: in bfloat16 that is coarse, and what the
/// reference does.
Rotary rotary_table(const Tensor& frequencies, int64_t rows);

}  // namespace kinora::models::open_sora
