#include "kinora/ops/conv.h"

#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

Tensor conv_reference(const Tensor& x, const Tensor& weight, const MaybeTensor& bias, at::IntArrayRef stride,
                      at::IntArrayRef padding) {
  // at::conv2d leaves a single small picture to another kernel than a batch of the same pictures, so that a tail of one frame would
  // differ in its last bits: oneDNN's own gives each picture the same bits in any batch.
  if (x.is_cpu() && x.scalar_type() == at::kFloat && x.numel() > 0 && at::hasMKLDNN()) {
    const std::vector<int64_t> dilation(stride.size(), 1);
    return at::mkldnn_convolution(x, weight, bias, padding, stride, dilation, 1);
  }
  if (weight.dim() == 4) return at::conv2d(x, weight, bias, stride, padding);
  return at::conv3d(x, weight, bias, stride, padding);
}

Tensor conv_meta(const Tensor& x, const Tensor& weight, const MaybeTensor&, at::IntArrayRef stride,
                 at::IntArrayRef padding) {
  std::vector<int64_t> shape{x.size(0), weight.size(0)};
  for (int64_t d = 2; d < weight.dim(); ++d) {
    shape.push_back((x.size(d) + 2 * padding[d - 2] - weight.size(d)) / stride[d - 2] + 1);
  }
  return x.new_empty(shape);
}

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

const Operator<&conv_reference, &conv_meta> conv_op(
    "kinora::conv(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding) -> Tensor");
const Operator<&patchify_reference, &patchify_meta> patchify_op(
    "kinora::patchify(Tensor x, Tensor weight, Tensor? bias) -> Tensor");

}  // namespace

Tensor conv(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::IntArrayRef stride,
            at::IntArrayRef padding) {
  return conv_op(x, weight, bias, stride, padding);
}

Tensor patchify(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  return patchify_op(x, weight, bias);
}

}  // namespace kinora::ops
