// The posterior of a variational autoencoder: a diagonal normal distribution given by its moments (Kingma & Welling
// 2014).
#pragma once

#include <ATen/ATen.h>

namespace kinora::models {

using at::Tensor;

/// moments [B, 2 C, ...]: C channels of means, then C of log-variances as the encoder gave them.
struct DiagonalGaussian {
  Tensor moments;

  Tensor mean() const;    ///< [B, C, ...], a view
  Tensor logvar() const;  ///< [B, C, ...], clamped to [-30, 20]
  Tensor std() const;     ///< exp(logvar / 2)
  Tensor mode() const { return mean(); }
  /// mean + std * noise; noise [B, C, ...], standard normal.
  Tensor sample(const Tensor& noise) const;
  /// Divergence from the standard normal, summed over all but the batch: [B].
  Tensor kl() const;
};

}  // namespace kinora::models
