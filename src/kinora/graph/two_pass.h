// Group norm (Wu & He 2018) of rows that are never in memory together: moments of each piece are merged (Chan et al.
// 1979) in float32 at least, then every piece is normed by them. B batch, C channels, G groups.
#pragma once

#include "kinora/graph/ir.h"

namespace kinora::graph {

/// Of [B, C, ...] in groups of channels; all [B, G].
class Moments {
 public:
  explicit Moments(int64_t groups) : groups_(groups) {}
  /// Takes in a piece [B, C, ...], every element once.
  void add(const Tensor& piece);
  /// (x - mean) / sqrt(variance + eps) * weight + bias of a piece; weight and bias [C] or undefined.
  Tensor norm(const Tensor& piece, const Tensor& weight, const Tensor& bias, double eps) const;

 private:
  int64_t groups_;
  double count_ = 0;
  Tensor mean_, squares_;  ///< squares: sum of squared distances from the mean
};

/// The node's call on one piece, by moments: group_norm of LibTorch's or of Kinora's, with its activation.
Tensor norm_by_moments(const Node& node, const CallStack& arguments, const Moments& moments);

}  // namespace kinora::graph
