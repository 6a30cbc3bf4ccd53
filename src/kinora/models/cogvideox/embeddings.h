// How video and text enter CogVideoX's transformer, and the tables of its positions.
// B batch, F latent frames, H x W latent pixels, L text tokens, T = F / patch_size_t, S patches of a frame, C width.
#pragma once

#include "kinora/models/cogvideox/config.h"
#include "kinora/models/common/positions.h"

namespace kinora::models::cogvideox {

/// "proj", "text_proj", and "pos_embedding" [1, max_text_seq_length + patches, C] where positions are learned.
class PatchEmbed {
 public:
  /// `add_positions`: sine-cosine or learned ones; else rotary tables tell positions in the attention.
  PatchEmbed(const Scope& scope, const CogVideoXConfig& config, bool add_positions);
  /// video [B, F, channels, H, W], text [B, L, text channels] -> {video [B, T, S, C], this rank's rows; text [B, L,
  /// C]}. Throws UsageError for sizes that learned positions do not cover.
  Streams operator()(const Run& run, const Tensor& video, const Tensor& text) const;

 private:
  Tensor add_learned(const Run& run, const Tensor& video, Tensor& text) const;
  Tensor add_table(const Tensor& video, int64_t frames, int64_t height, int64_t width) const;

  CogVideoXConfig config_;
  bool add_positions_;
  Param weight_;
  std::optional<Param> bias_;
  Linear text_proj_;
  std::optional<Param> learned_;
};

/// Rotary tables as diffusers' pipeline makes them for a latent of F x H x W: the 2B/5B grid is the part of the
/// sample's grid that has the latent's proportions; 1.5 counts patches. Undefined tensors when the model has no rotary
/// positions.
RotaryTable rotary_positions(const CogVideoXConfig& config, int64_t frames, int64_t height, int64_t width);

}  // namespace kinora::models::cogvideox
