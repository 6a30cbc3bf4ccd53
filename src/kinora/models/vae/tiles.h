// Pictures worked through in overlapping tiles whose seams are cross-faded: bounded memory for any picture size, at the
// price of results that differ slightly from the whole picture's (each tile has norms and attention of its own).
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace kinora::models {

using at::Tensor;

/// Tiles start every `step` rows and columns and are at most `size` wide, in input pixels. Of each result the first
/// `blend` rows and columns fade over from the neighbour before it and the first `keep` are used, in output pixels.
struct TileGrid {
  int64_t size = 0;
  int64_t step = 0;
  int64_t blend = 0;
  int64_t keep = 0;
  int64_t least = 1;  ///< thinner leftovers at the far edges are left out: they would give no output of their own
};

/// x [B, C, H, W] -> [B, C', H', W']. `work` maps one tile; a tile at the edge is smaller. Throws UsageError for a grid
/// that cannot advance (sizes below 1).
Tensor map_tiles(const Tensor& x, const TileGrid& grid, const std::function<Tensor(const Tensor&)>& work);

}  // namespace kinora::models
