// How latents and time enter Latte's transformer. B batch, F frames, H x W latent pixels, S patches of a frame, C
// width.
#pragma once

#include "kinora/models/common/embeddings.h"

namespace kinora::models::latte {

/// Each frame cut into patches, with sine-cosine positions of its rows and columns. "proj".
class PatchEmbed {
 public:
  struct Options {
    int64_t in_channels, width, patch_size;
    int64_t base_size;            ///< patches of a side that take the positions 0, 1, ...; other sizes stretch these
    int64_t interpolation_scale;  ///< positions are divided by it
  };
  PatchEmbed(const Scope& scope, const Options& options);
  /// video [B, in_channels, F, H, W], H and W multiples of the patch -> [B, F, S, C].
  Tensor operator()(const Run& run, const Tensor& video) const;

 private:
  Options options_;
  Param weight_, bias_;
};

/// The timestep as what every block is modulated with (adaLN-single, Chen et al. 2023, PixArt-alpha).
/// "emb.timestep_embedder", "linear".
class AdaLayerNormSingle {
 public:
  AdaLayerNormSingle(const Scope& scope, int64_t width);
  struct Time {
    Tensor embed;  ///< [N, C]
    Tensor six;    ///< [N, 6, C]: shift, scale and gate before the attention, the same before the feed-forward layer
  };
  /// timestep [N] -> in `dtype`.
  Time operator()(const Run& run, const Tensor& timestep, at::ScalarType dtype) const;

 private:
  TimestepEmbedding embedder_;
  Linear linear_;
};

}  // namespace kinora::models::latte
