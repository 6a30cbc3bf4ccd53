// The parts of the 2-D autoencoder (Rombach et al. 2022; the layout and names of diffusers' AutoencoderKL).
// B pictures, C channels, H and W pixels. Blocks take their input by value: what is moved in is freed as soon as it can
// be.
#pragma once

#include <optional>
#include <vector>

#include "kinora/nn/layers.h"

namespace kinora::models::kl {

/// What encoder and decoder share of the configuration.
struct Widths {
  std::vector<int64_t> channels;  ///< of each level, from pixels to latents
  int64_t layers = 1;             ///< residual blocks per level of the encoder; the decoder has one more
  int64_t groups = 32;
  bool mid_attention = true;
};

/// x + conv2(silu(norm2(conv1(silu(norm1(x)))))); a 1x1 "conv_shortcut" on x where the widths differ.
class ResnetBlock {
 public:
  ResnetBlock(const Scope& scope, int64_t in, int64_t out, int64_t groups);
  Tensor operator()(const Run& run, Tensor x) const;  ///< [B, in, H, W] -> [B, out, H, W]

 private:
  GroupNorm norm1_;
  Conv conv1_;
  GroupNorm norm2_;
  Conv conv2_;
  std::optional<Conv> shortcut_;
};

/// Every pixel attends to all pixels of its picture, one head: "group_norm", "to_q", "to_k", "to_v", "to_out.0".
class PixelAttention {
 public:
  PixelAttention(const Scope& scope, int64_t channels, int64_t groups);
  Tensor operator()(const Run& run, Tensor x) const;

 private:
  GroupNorm norm_;
  Linear q_, k_, v_, out_;
};

/// "resnets.0", "attentions.0" where asked for, "resnets.1".
class MidBlock {
 public:
  MidBlock(const Scope& scope, int64_t channels, int64_t groups, bool attention);
  Tensor operator()(const Run& run, Tensor x) const;

 private:
  ResnetBlock first_;
  std::optional<PixelAttention> attention_;
  ResnetBlock second_;
};

/// Residual blocks and a change of resolution behind them.
struct Level {
  std::vector<ResnetBlock> blocks;
  std::optional<Conv> resample;
};

/// Pixels [B, in, H, W] -> moments before quant_conv [B, 2 latent, H', W'], each level but the last halving, rounding
/// down.
class Encoder {
 public:
  Encoder(const Scope& scope, int64_t in, int64_t latent, const Widths& widths);
  Tensor operator()(const Run& run, Tensor x) const;

 private:
  Conv conv_in_;
  std::vector<Level> levels_;
  MidBlock mid_;
  GroupNorm norm_out_;
  Conv conv_out_;
};

/// Latents [B, latent, h, w] -> pixels [B, out, f h, f w], f = 2^(levels - 1).
class Decoder {
 public:
  Decoder(const Scope& scope, int64_t latent, int64_t out, const Widths& widths);
  Tensor operator()(const Run& run, Tensor z) const;

 private:
  Conv conv_in_;
  MidBlock mid_;
  std::vector<Level> levels_;
  GroupNorm norm_out_;
  Conv conv_out_;
};

}  // namespace kinora::models::kl
