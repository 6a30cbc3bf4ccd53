// Attention to a part of the keys, and how parts become the whole: softmax over a union of key sets is the mean of the
// softmaxes over each, weighed by the exponentials of their log-sum-exps (Milakov & Gimelshein 2018; Liu et al. 2023,
// ring attention). G sets of rows, A heads, N queries, M keys, D width of a head.
#pragma once

#include <ATen/ATen.h>

namespace kinora::parallel {

using at::Tensor;

/// What attention to some of the keys gives.
struct Partial {
  Tensor out;  ///< [G, A, N, D]
  Tensor lse;  ///< [G, A, N], the log of the sum of exponentials of the scores
};

/// q [G, A, N, D], k and v [G, A, M, D], M > 0, scores scaled by D^-0.5. lse in float32 (float64 in float64).
Partial attend_part(const Tensor& q, const Tensor& k, const Tensor& v);

/// The union of two parts, in float32 (float64): undefined `so_far` is none. The weights are differences from the
/// larger log-sum-exp, so they never exceed 1, whatever the scores are.
Partial merge(const Partial& so_far, const Partial& next);

/// Gradients of one part where `of_whole` is attention to all parts: grad is that of its output.
struct PartGradients {
  Tensor q, k, v;
};
PartGradients attend_part_backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                   const Partial& of_whole);

/// Both by plain products, with N x M scores: what runs off the CPU, and what the CPU's fused kernels are held to.
Partial attend_part_by_products(const Tensor& q, const Tensor& k, const Tensor& v);
PartGradients attend_part_backward_by_products(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                               const Partial& of_whole);

}  // namespace kinora::parallel
