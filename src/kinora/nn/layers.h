// Layers that models are built from: each declares its parameters in a Scope and computes with a Run.
#pragma once

#include <optional>

#include "kinora/nn/run.h"
#include "kinora/ops/linear.h"

namespace kinora {

struct LinearOptions {
  bool bias = true;
  Init init = init::xavier_uniform;
};

/// y = x W^T + b. "weight" [out, in], "bias" [out]; x [..., in] -> [..., out].
class Linear {
 public:
  Linear(const Scope& scope, int64_t in, int64_t out, const LinearOptions& options = {});
  Tensor operator()(const Run& run, const Tensor& x) const;
  const Param& weight() const { return weight_; }
  const Param* bias() const { return bias_ ? &*bias_ : nullptr; }

 private:
  Param weight_;
  std::optional<Param> bias_;
};

/// fc2(activation(fc1(x))) with the given child names ("fc1", "fc2"); x [..., in] -> [..., out].
class Mlp {
 public:
  Mlp(const Scope& first, const Scope& second, int64_t in, int64_t hidden, int64_t out, ops::Activation activation,
      const LinearOptions& second_options = {});
  Tensor operator()(const Run& run, const Tensor& x) const;

 private:
  Linear first_, second_;
  ops::Activation activation_;
};

struct NormOptions {
  double eps = 1e-6;
  bool weight = true;
  bool bias = true;
};

/// Layer norm over the last dim, with an affine part where asked; "weight" and "bias" [width].
class LayerNorm {
 public:
  LayerNorm(const Scope& scope, int64_t width, const NormOptions& options = {});
  /// norm(x) * (1 + scale) + shift; scale and shift broadcast against x, or undefined.
  Tensor operator()(const Run& run, const Tensor& x, const Tensor& scale = {}, const Tensor& shift = {}) const;

 private:
  std::optional<Param> weight_, bias_;
  double eps_;
};

/// x / rms(x) * weight over the last dim, in float32 (or wider); "weight" [width] (Zhang & Sennrich 2019).
class RmsNorm {
 public:
  RmsNorm(const Scope& scope, int64_t width, double eps = 1e-6);
  Tensor operator()(const Run& run, const Tensor& x) const;
  const Param& weight() const { return weight_; }
  double eps() const { return eps_; }

 private:
  Param weight_;
  double eps_;
};

struct ConvOptions {
  std::vector<int64_t> stride;   ///< empty: 1 everywhere
  std::vector<int64_t> padding;  ///< zeros, both sides, a number per spatial dim; empty: none
  bool bias = true;
};

/// Convolution over the trailing kernel.size() dims (2 or 3): "weight" [out, in, kernel...], "bias" [out].
class Conv {
 public:
  Conv(const Scope& scope, int64_t in, int64_t out, std::vector<int64_t> kernel, ConvOptions options = {});
  Tensor operator()(const Run& run, const Tensor& x) const;

 private:
  Param weight_;
  std::optional<Param> bias_;
  ConvOptions options_;
};

/// Group norm over [B, C, ...], optionally followed by SiLU in the same pass; "weight" and "bias" [C].
class GroupNorm {
 public:
  GroupNorm(const Scope& scope, int64_t groups, int64_t channels, double eps);
  Tensor operator()(const Run& run, const Tensor& x, ops::Activation activation = ops::Activation::none) const;

 private:
  Param weight_, bias_;
  int64_t groups_;
  double eps_;
};

}  // namespace kinora
