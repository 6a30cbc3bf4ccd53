#include "kinora/models/vae/gaussian.h"

#include "kinora/base/error.h"

namespace kinora::models {

Tensor DiagonalGaussian::mean() const { return moments.narrow(1, 0, moments.size(1) / 2); }

Tensor DiagonalGaussian::logvar() const {
  const int64_t channels = moments.size(1) / 2;
  return moments.narrow(1, channels, channels).clamp(-30.0, 20.0);
}

Tensor DiagonalGaussian::std() const { return at::exp(logvar() * 0.5); }

Tensor DiagonalGaussian::sample(const Tensor& noise) const {
  const Tensor center = mean();
  if (noise.sizes() != center.sizes()) {
    throw UsageError(concat("noise of shape ", noise.sizes(), " for a posterior of shape ", center.sizes()));
  }
  return center + std() * noise.to(center.scalar_type());
}

Tensor DiagonalGaussian::kl() const {
  const Tensor log_variance = logvar();
  const Tensor terms = mean().square() + at::exp(log_variance) - 1.0 - log_variance;
  return 0.5 * terms.flatten(1).sum(1);
}

}  // namespace kinora::models
