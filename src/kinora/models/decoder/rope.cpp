#include "kinora/models/decoder/rope.h"

#include <numbers>

namespace kinora::models::decoder {
namespace {

Tensor stretched(const Tensor& frequencies, const Llama3Scaling& s) {
  const auto original = static_cast<double>(s.original_max_position_embeddings);
  const Tensor wavelength = 2 * std::numbers::pi / frequencies;
  // 1 at the short wavelengths that stay as they are, 0 at the long ones.
  const Tensor kept =
      ((original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)).clamp(0, 1);
  return (1 - kept) * frequencies / s.factor + kept * frequencies;
}

}  // namespace

Tensor rope_frequencies(const DecoderConfig& config) {
  const Tensor exponents = at::arange(0, config.head_dim, 2, at::kFloat) / static_cast<double>(config.head_dim);
  const Tensor frequencies = 1.0 / at::pow(at::Scalar(config.rope_theta), exponents);
  return config.rope_scaling ? stretched(frequencies, *config.rope_scaling) : frequencies;
}

Rotary rotary_of(const DecoderConfig& config, int64_t first, int64_t n, at::Device device) {
  const Tensor angles = at::outer(at::arange(first, first + n, at::kFloat), rope_frequencies(config));
  return {.cos = angles.cos().to(device), .sin = angles.sin().to(device)};
}

Tensor rotate(const Tensor& x, const Rotary& rotary) {
  const int64_t half = x.size(-1) / 2;
  const Tensor a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
  return at::cat({a * rotary.cos - b * rotary.sin, b * rotary.cos + a * rotary.sin}, -1).to(x.scalar_type());
}

}  // namespace kinora::models::decoder
