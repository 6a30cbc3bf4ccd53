#include "kinora/ops/patchify.h"

#include "kinora/base/error.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

Tensor patchify_reference(const Tensor& x, const Tensor& weight, const MaybeTensor& bias) {
  const int64_t pt = weight.size(2), ph = weight.size(3), pw = weight.size(4);
  const int64_t t = ceil_div(x.size(2), pt), h = ceil_div(x.size(3), ph), w = ceil_div(x.size(4), pw);
  const Tensor whole = at::constant_pad_nd(x, {0, w * pw - x.size(4), 0, h * ph - x.size(3), 0, t * pt - x.size(2)});
  const Tensor patches = whole.reshape({x.size(0), x.size(1), t, pt, h, ph, w, pw}).permute({0, 2, 4, 6, 1, 3, 5, 7});
  return at::linear(patches.reshape({x.size(0), t, h * w, x.size(1) * pt * ph * pw}), weight.flatten(1), bias);
}

Tensor patchify_meta(const Tensor& x, const Tensor& weight, const MaybeTensor&) {
  return x.new_empty({x.size(0), ceil_div(x.size(2), weight.size(2)),
                      ceil_div(x.size(3), weight.size(3)) * ceil_div(x.size(4), weight.size(4)), weight.size(0)});
}

const Operator<&patchify_reference, &patchify_meta> patchify_op(
    "kinora::patchify(Tensor x, Tensor weight, Tensor? bias) -> Tensor");

}  // namespace

Tensor patchify(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  const bool fits = x.dim() == 5 && weight.dim() == 5 && x.size(1) == weight.size(1) && weight.numel() > 0;
  if (!fits || (bias && (bias->dim() != 1 || bias->size(0) != weight.size(0)))) {
    throw UsageError(concat("patchify: x ", x.sizes(), " with a weight ", weight.sizes()),
                     "give x [B, C, T, H, W], weight [out, C, pt, ph, pw] and bias [out] or none");
  }
  return patchify_op(x, weight, bias);
}

}  // namespace kinora::ops
