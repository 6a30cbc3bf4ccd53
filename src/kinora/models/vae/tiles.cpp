#include "kinora/models/vae/tiles.h"

#include <algorithm>
#include <vector>

#include "kinora/base/error.h"

namespace kinora::models {
namespace {

/// The first rows (dim 2) or columns (dim 3) of `tile` fade over from the last ones of the tile before it.
Tensor fade(const Tensor& before, const Tensor& tile, int64_t dim, int64_t extent) {
  extent = std::min({extent, before.size(dim), tile.size(dim)});
  if (extent < 1) return tile;
  const auto wide = tile.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Tensor ramp = at::arange(extent, tile.options().dtype(wide)) / static_cast<double>(extent);
  if (dim == 2) ramp = ramp.unsqueeze(1);
  const Tensor old = before.narrow(dim, before.size(dim) - extent, extent) * (1.0 - ramp);
  const Tensor head = (old + tile.narrow(dim, 0, extent) * ramp).to(tile.scalar_type());
  return at::cat({head, tile.narrow(dim, extent, tile.size(dim) - extent)}, dim);
}

}  // namespace

Tensor map_tiles(const Tensor& x, const TileGrid& grid, const std::function<Tensor(const Tensor&)>& work) {
  if (grid.size < 1 || grid.step < 1 || grid.keep < 1) {
    throw UsageError(concat("tiles of ", grid.size, " pixels every ", grid.step, " cannot cover a picture"),
                     "Give a larger tile size or a smaller overlap.");
  }
  std::vector<Tensor> rows, above;
  const auto is_left = [&](int64_t begin, int64_t size) { return begin == 0 || begin + grid.least <= size; };
  for (int64_t top = 0; top < x.size(2) && is_left(top, x.size(2)); top += grid.step) {
    std::vector<Tensor> tiles, kept;
    for (int64_t left = 0; left < x.size(3) && is_left(left, x.size(3)); left += grid.step) {
      const Tensor part =
          x.narrow(2, top, std::min(grid.size, x.size(2) - top)).narrow(3, left, std::min(grid.size, x.size(3) - left));
      Tensor tile = work(part);
      if (!above.empty()) tile = fade(above[tiles.size()], tile, 2, grid.blend);
      if (!tiles.empty()) tile = fade(tiles.back(), tile, 3, grid.blend);
      kept.push_back(
          tile.narrow(2, 0, std::min(grid.keep, tile.size(2))).narrow(3, 0, std::min(grid.keep, tile.size(3))));
      tiles.push_back(std::move(tile));
    }
    rows.push_back(at::cat(kept, 3));
    above = std::move(tiles);  // the next row fades over from tiles that have faded themselves, as the reference does
  }
  return at::cat(rows, 2);
}

}  // namespace kinora::models
