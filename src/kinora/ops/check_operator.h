// For tests of operators: what every registered operator promises, held against a naive loop and the plain ATen expression.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "kinora/tensor/test_values.h"

namespace kinora::ops {

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Call = std::function<Tensor(const Tensors& inputs)>;

/// Largest difference allowed, as a share of the largest wanted value.
struct DTypeRow {
  at::ScalarType dtype;
  double tolerance;
};
inline constexpr DTypeRow kDTypes[] = {{at::kDouble, 1e-12}, {at::kFloat, 1e-5}, {at::kBFloat16, 2e-2}};

inline double relative_error(const Tensor& got, const Tensor& want) {
  if (got.sizes() != want.sizes()) return INFINITY;
  const Tensor wide = want.detach().to(at::kDouble);
  return (got.detach().to(at::kDouble) - wide).abs().max().item<double>() / (wide.abs().max().item<double>() + 1e-300);
}

/// Elements of a float64 tensor in order, for loops.
inline std::vector<double> values(const Tensor& t) {
  const Tensor flat = t.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}
inline Tensor from_values(const std::vector<double>& data, at::IntArrayRef shape) {
  return at::tensor(data, at::kDouble).reshape(shape);
}

/// Inputs in `dtype`; those that are not floating (masks) as they are.
inline Tensors cast(const Tensors& inputs, at::ScalarType dtype) {
  Tensors out;
  for (const Tensor& t : inputs) out.push_back(t.is_floating_point() ? t.to(dtype) : t);
  return out;
}

inline Tensors gradients(const Tensors& inputs, const Call& call) {
  Tensors leaves;
  for (const Tensor& t : inputs) {
    Tensor leaf = t.detach().clone();
    if (t.is_floating_point()) leaf.set_requires_grad(true);
    leaves.push_back(leaf);
  }
  const Tensor out = call(leaves);
  out.backward(at::cos(at::arange(out.numel(), at::kDouble)).to(out.scalar_type()).view(out.sizes()));
  Tensors grads;
  for (const Tensor& leaf : leaves) {
    if (leaf.requires_grad()) grads.push_back(leaf.grad());
  }
  return grads;
}

/// Holds `op` on float64 `inputs` against `naive` (loops over float64) in every dtype and against `aten` (its plain expression) in its
/// gradients; its meta twin has the result's shape, strides and dtype; inference mode changes no bit; no input is written.
inline void expect_operator(const Tensors& inputs, const Call& op, const Call& naive, const Call& aten) {
  for (const auto& [dtype, tolerance] : kDTypes) {
    SCOPED_TRACE(c10::toString(dtype));
    const Tensors in = cast(inputs, dtype);
    Tensors before, meta;
    for (const Tensor& t : in) {
      before.push_back(t.clone());
      meta.push_back(t.to(at::kMeta));
    }
    const Tensor got = op(in);
    EXPECT_EQ(got.scalar_type(), dtype);
    EXPECT_LE(relative_error(got, naive(cast(in, at::kDouble))), tolerance);
    for (size_t i = 0; i < in.size(); ++i) {
      EXPECT_TRUE(in[i].equal(before[i])) << "input " << i << " was written";
      EXPECT_FALSE(got.is_alias_of(in[i])) << "the result shares memory with input " << i;
    }
    const Tensor shape_only = op(meta);
    EXPECT_TRUE(shape_only.is_meta());
    EXPECT_EQ(shape_only.sizes(), got.sizes());
    EXPECT_EQ(shape_only.scalar_type(), got.scalar_type());
    EXPECT_EQ(shape_only.strides(), got.strides());
    const c10::InferenceMode inference;
    Tensors fresh;
    for (const Tensor& t : in) fresh.push_back(t.clone());
    EXPECT_TRUE(op(fresh).equal(got)) << "inference mode gives other bits";
  }
  for (const auto& [dtype, tolerance] : {kDTypes[0], kDTypes[1]}) {
    SCOPED_TRACE(c10::toString(dtype));
    const Tensors got = gradients(cast(inputs, dtype), op), want = gradients(cast(inputs, dtype), aten);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(got[i].defined(), want[i].defined()) << "gradient " << i;
      if (want[i].defined()) {
        EXPECT_LE(relative_error(got[i], want[i]), 10 * tolerance) << "gradient " << i;
      }
    }
  }
}

}  // namespace kinora::ops
