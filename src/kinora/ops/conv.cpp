#include "kinora/ops/conv.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

/// oneDNN has kernels for this dtype here. Elsewhere LibTorch lays out every window of the input in memory.
bool is_onednn_dtype(at::ScalarType dtype) {
  if (dtype == at::kFloat) return true;
#if defined(__x86_64__)
  static const bool has_avx512 =
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return dtype == at::kBFloat16 && has_avx512;
#else
  return false;
#endif
}

Tensor conv_reference(const Tensor& x, const Tensor& weight, const MaybeTensor& bias, at::IntArrayRef stride,
                      at::IntArrayRef padding) {
  if (x.is_cpu() && x.scalar_type() != conv_dtype(x.scalar_type())) {
    const at::ScalarType wide = conv_dtype(x.scalar_type());
    const MaybeTensor wide_bias = bias ? MaybeTensor(bias->to(wide)) : std::nullopt;
    return conv_reference(x.to(wide), weight.to(wide), wide_bias, stride, padding).to(x.scalar_type());
  }
  // at::conv2d leaves a single small picture to another kernel than a batch of the same pictures, so that a tail of one frame would
  // differ in its last bits: oneDNN's own gives each picture the same bits in any batch.
  if (x.is_cpu() && is_onednn_dtype(x.scalar_type()) && x.numel() > 0 && at::hasMKLDNN()) {
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

const Operator<&conv_reference, &conv_meta> conv_op(
    "kinora::conv(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding) -> Tensor");

}  // namespace

at::ScalarType conv_dtype(at::ScalarType dtype) {
  const bool is_wide = dtype == at::kBFloat16 && !is_onednn_dtype(dtype) && at::hasMKLDNN();
  return is_wide ? at::kFloat : dtype;
}

Tensor conv(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::IntArrayRef stride,
            at::IntArrayRef padding) {
  const auto refuse = [&](const char* hint) {
    throw UsageError(
        concat("conv: x ", x.sizes(), " with a weight ", weight.sizes(), ", stride ", stride, " and padding ", padding),
        hint);
  };
  const auto dims = static_cast<size_t>(std::max<int64_t>(weight.dim() - 2, 0));
  if ((dims != 2 && dims != 3) || x.dim() != weight.dim() || x.size(1) != weight.size(1) ||
      (bias && (bias->dim() != 1 || bias->size(0) != weight.size(0)))) {
    refuse("give x [B, in, (T,) H, W], weight [out, in, kernel...] and bias [out] or none");
  }
  if (stride.size() != dims || padding.size() != dims) refuse("give a stride and a padding for each dim of the kernel");
  for (size_t d = 0; d < dims; ++d) {
    const int64_t dim = static_cast<int64_t>(d) + 2;
    if (stride[d] < 1 || padding[d] < 0 || x.size(dim) + 2 * padding[d] < weight.size(dim))
      refuse("strides are above zero, paddings not below, and the kernel fits into the padded x");
  }
  return conv_op(x, weight, bias, stride, padding);
}

}  // namespace kinora::ops
