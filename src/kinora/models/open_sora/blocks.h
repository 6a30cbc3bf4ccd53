// STDiT3's blocks: attention within each frame or along time, attention to the caption, MLP; modulated by the timestep
// (adaLN-single, Chen et al. 2023, PixArt-alpha). B batch, T frames, S patches of a frame, C width, A heads, D = C / A.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "kinora/models/common/sublayer.h"
#include "kinora/models/open_sora/embeddings.h"

namespace kinora::models::open_sora {

/// Multi-head self-attention along one axis of [B, T, S, C]: rows of a frame see each other (Axis::rows), or the same
/// row of all frames (Axis::frames). "qkv", "q_norm", "k_norm", "proj".
class SelfAttention {
 public:
  struct Options {
    bool qk_norm = true;
    bool norm_after_rotary = false;
    Init proj_init = init::xavier_uniform;
  };
  SelfAttention(const Scope& scope, int64_t width, int64_t heads, const Options& options);
  /// rotary: tables of all rows along the axis, or null. -> the shape of x.
  Tensor operator()(const Run& run, const Tensor& x, Axis along, const Extent& extent, const Rotary* rotary) const;

 private:
  Tensor prepare(const Run& run, const Tensor& heads, const std::optional<RmsNorm>& norm, const Rotary* rotary) const;

  int64_t head_dim_;
  bool norm_after_rotary_;
  Linear qkv_;
  std::optional<RmsNorm> q_norm_, k_norm_;
  Linear proj_;
};

/// Every row of a sample attends to that sample's text tokens. "q_linear", "kv_linear", "proj".
class CrossAttention {
 public:
  CrossAttention(const Scope& scope, int64_t width, int64_t heads, Init proj_init = init::xavier_uniform);
  /// tokens [1, N, C] -> [1, N, 2 C].
  Tensor keys_values(const Run& run, const Tensor& tokens) const;
  /// x [B, T, S, C], keys_values of packed tokens, lengths of each sample -> the shape of x.
  Tensor operator()(const Run& run, const Tensor& x, const Tensor& keys_values, at::IntArrayRef lengths) const;

 private:
  int64_t head_dim_;
  Linear q_, kv_, proj_;
};

/// What all blocks of one model call share.
struct Conditioning {
  Extent extent;
  Caption caption;
  Tensor embed;                  ///< [B, C], the sum of the embedded timestep and frame rate
  Tensor time;                   ///< [B, 6, C], what modulates
  Tensor embed_zero, time_zero;  ///< the same at timestep 0, for frames that are given; undefined without a mask
  Tensor frame_mask;             ///< [B, T, 1, 1] bool, all frames: true is being denoised; undefined: all are
  Rotary rotary;                 ///< of all frames

  /// For Stack::conditioning.
  std::vector<Tensor> read_by_blocks() const;
};

class Block {
 public:
  /// "spatial_blocks.3" or "temporal_blocks.3"; `index` counts both kinds, in the order in which they run.
  Block(const Scope& scope, const STDiT3Config& config, Axis along, int index);
  /// x [B, T, S, C] -> the same. Sites: attn, cross_attn, mlp.
  Tensor operator()(const Run& run, const Tensor& x, const Conditioning& c) const;
  /// What enters the self-attention.
  Tensor modulated_input(const Run& run, const Tensor& x, const Conditioning& c) const;
  /// For Caption::keys_values.
  Tensor caption_keys_values(const Run& run, const Tensor& tokens) const { return cross_.keys_values(run, tokens); }

 private:
  Tensor compute(const Run& run, const Tensor& input, const Conditioning& c) const;
  /// first: 0 before the self-attention, 3 before the MLP. -> [B, 1 or T, 1, C] each.
  Modulation modulation(const Run& run, const Conditioning& c, int64_t first) const;

  Axis along_;
  int index_;
  std::string attn_path_, cross_path_, mlp_path_;
  Param scale_shift_;
  LayerNorm norm_;  // no weights, so one serves both places
  SelfAttention attn_;
  CrossAttention cross_;
  Mlp mlp_;
};

/// Modulated norm and the map to patches. "scale_shift_table" [2, C], "linear".
class FinalLayer {
 public:
  FinalLayer(const Scope& scope, int64_t width, int64_t outputs);
  /// x [B, T, S, C] -> [B, T, S, outputs]; of the conditioning: embed, embed_zero, frame_mask.
  Tensor operator()(const Run& run, const Tensor& x, const Conditioning& c) const;

 private:
  Param scale_shift_;
  LayerNorm norm_;
  Linear linear_;
};

}  // namespace kinora::models::open_sora
