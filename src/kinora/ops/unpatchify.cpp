#include "kinora/ops/unpatchify.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/ops/patchify.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

int64_t channels_of(const Tensor& rows, at::IntArrayRef patch) {
  return rows.size(3) / (patch[0] * patch[1] * patch[2]);
}

Tensor unpatchify_reference(const Tensor& rows, at::IntArrayRef patch, at::IntArrayRef size) {
  const int64_t b = rows.size(0), c = channels_of(rows, patch);
  const int64_t t = rows.size(1), h = ceil_div(size[1], patch[1]), w = ceil_div(size[2], patch[2]);
  const Tensor patches = rows.reshape({b, t, h, w, patch[0], patch[1], patch[2], c}).permute({0, 7, 1, 4, 2, 5, 3, 6});
  const Tensor video = patches.reshape({b, c, t * patch[0], h * patch[1], w * patch[2]});
  const Tensor cut = video.narrow(2, 0, size[0]).narrow(3, 0, size[1]).narrow(4, 0, size[2]);
  return cut.is_alias_of(rows) ? cut.clone(at::MemoryFormat::Contiguous) : cut.contiguous();
}

Tensor unpatchify_meta(const Tensor& rows, at::IntArrayRef patch, at::IntArrayRef size) {
  return rows.new_empty({rows.size(0), channels_of(rows, patch), size[0], size[1], size[2]});
}

const Operator<&unpatchify_reference, &unpatchify_meta> unpatchify_op(
    "kinora::unpatchify(Tensor rows, int[] patch, int[] size) -> Tensor");

}  // namespace

Tensor unpatchify(const Tensor& rows, at::IntArrayRef patch, at::IntArrayRef size) {
  const auto positive = [](at::IntArrayRef of) {
    return of.size() == 3 && std::all_of(of.begin(), of.end(), [](int64_t n) { return n > 0; });
  };
  if (!positive(patch) || !positive(size))
    throw UsageError(concat("unpatchify: patches of ", patch, " into ", size), "each has three sizes above zero");
  const int64_t volume = patch[0] * patch[1] * patch[2],
                in_frame = ceil_div(size[1], patch[1]) * ceil_div(size[2], patch[2]);
  if (rows.dim() != 4 || rows.size(1) != ceil_div(size[0], patch[0]) || rows.size(2) != in_frame || rows.size(3) == 0 ||
      rows.size(3) % volume != 0) {
    throw UsageError(
        concat("unpatchify: rows ", rows.sizes(), " with patches of ", patch, " into ", size),
        concat("give [batch, ", ceil_div(size[0], patch[0]), ", ", in_frame, ", a multiple of ", volume, "]"));
  }
  return unpatchify_op(rows, patch, size);
}

}  // namespace kinora::ops
