#include "kinora/ops/residual.h"

#include "kinora/base/error.h"
#include "kinora/ops/fused_cpu.h"
#include "kinora/ops/register.h"

namespace kinora::ops {
namespace {

Tensor add_residual_reference(const Tensor& x, const Tensor& y, const MaybeTensor& gate) {
  // Not addcmul: the product rounds on its own, so that a policy which keeps it leaves the same bits in x.
  return gate ? x + y * *gate : x + y;
}

Tensor add_residual_cpu(const Tensor& x, const Tensor& y, const MaybeTensor& gate) {
  const MaybeTensor fused = cpu::add_residual(x, y, gate);
  return fused ? *fused : add_residual_reference(x, y, gate);
}

Tensor add_residual_meta(const Tensor& x, const Tensor&, const MaybeTensor&) { return at::empty_like(x); }

const Operator<&add_residual_reference, &add_residual_meta> add_residual_op(
    "kinora::add_residual(Tensor x, Tensor y, Tensor? gate) -> Tensor", &add_residual_cpu);

}  // namespace

Tensor add_residual(const Tensor& x, const Tensor& y, const std::optional<Tensor>& gate) {
  if (x.sizes() != y.sizes()) {
    throw UsageError(concat("add_residual: x is ", x.sizes(), ", what is added is ", y.sizes()));
  }
  return add_residual_op(x, y, gate);
}

}  // namespace kinora::ops
