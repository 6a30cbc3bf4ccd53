#include "kinora/media/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kinora/base/error.h"

namespace kinora::media {
namespace {

constexpr double kCapMse = 1e-10;
constexpr double kCapDb = 100.0;
constexpr double kGaussianTruncate = 3.5;  // skimage: 11 taps at sigma 1.5
constexpr int64_t kGaussianSide = 11;

void check_same(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size()) {
    throw UsageError(concat("metrics: the pictures have ", a.size(), " and ", b.size(), " values"),
                     "compare pictures of one size");
  }
  if (a.empty()) throw UsageError("metrics: the pictures are empty");
}

/// Index into 0..n-1 of position i of a row that is mirrored at its edges with the edge repeated (d c b a | a b c d).
int64_t mirrored(int64_t i, int64_t n) {
  const int64_t period = 2 * n;
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - 1 - i;
}

std::vector<double> window_weights(const SsimOptions& options, int64_t win_size) {
  if (!options.gaussian_weights) {
    return std::vector<double>(static_cast<size_t>(win_size), 1.0 / static_cast<double>(win_size));
  }
  const auto radius = static_cast<int64_t>(kGaussianTruncate * options.sigma + 0.5);
  std::vector<double> weights(static_cast<size_t>(2 * radius + 1));
  double sum = 0;
  for (int64_t i = -radius; i <= radius; ++i) {
    const double x = static_cast<double>(i) / options.sigma;
    sum += weights[static_cast<size_t>(i + radius)] = std::exp(-0.5 * x * x);
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// Separable correlation of one plane [H, W] with a symmetric window; edges mirrored.
class WindowFilter {
 public:
  WindowFilter(std::vector<double> weights, int64_t height, int64_t width)
      : weights_(std::move(weights)),
        radius_(static_cast<int64_t>(weights_.size() / 2)),
        height_(height),
        width_(width),
        columns_(static_cast<size_t>(height * width)),
        row_(static_cast<size_t>(width + 2 * radius_)) {}

  std::vector<double> operator()(const std::vector<double>& plane) {
    const auto width = static_cast<size_t>(width_);
    std::fill(columns_.begin(), columns_.end(), 0.0);
    for (int64_t y = 0; y < height_; ++y) {
      double* out = &columns_[static_cast<size_t>(y) * width];
      for (size_t k = 0; k < weights_.size(); ++k) {
        const int64_t source = mirrored(y + static_cast<int64_t>(k) - radius_, height_);
        const double* in = &plane[static_cast<size_t>(source) * width];
        for (size_t x = 0; x < width; ++x) out[x] += weights_[k] * in[x];
      }
    }
    std::vector<double> result(plane.size(), 0.0);
    for (int64_t y = 0; y < height_; ++y) {
      const double* in = &columns_[static_cast<size_t>(y) * width];
      for (size_t x = 0; x < row_.size(); ++x) row_[x] = in[mirrored(static_cast<int64_t>(x) - radius_, width_)];
      double* out = &result[static_cast<size_t>(y) * width];
      for (size_t k = 0; k < weights_.size(); ++k) {
        for (size_t x = 0; x < width; ++x) out[x] += weights_[k] * row_[x + k];
      }
    }
    return result;
  }

 private:
  std::vector<double> weights_;
  int64_t radius_, height_, width_;
  std::vector<double> columns_, row_;
};

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> out(a.size());
  for (size_t i = 0; i < a.size(); ++i) out[i] = a[i] * b[i];
  return out;
}

std::vector<double> plane_of(std::span<const double> image, const ImageShape& shape, int64_t channel) {
  const auto pixels = static_cast<size_t>(shape.height * shape.width);
  const auto c = static_cast<size_t>(channel);
  std::vector<double> plane(pixels);
  for (size_t i = 0; i < pixels; ++i) {
    plane[i] = shape.channels_first ? image[c * pixels + i] : image[i * static_cast<size_t>(shape.channels) + c];
  }
  return plane;
}

int64_t checked_window(const ImageShape& shape, const SsimOptions& options) {
  if (!(options.data_range > 0)) throw UsageError("SSIM: data_range must be positive");
  if (options.gaussian_weights && !(options.sigma > 0 && options.sigma < 1000)) {
    throw UsageError(concat("SSIM: sigma ", options.sigma, " is not in (0, 1000)"));
  }
  int64_t win_size = options.win_size;
  if (win_size == 0) {
    const auto radius = static_cast<int64_t>(kGaussianTruncate * options.sigma + 0.5);
    win_size = options.gaussian_weights ? 2 * radius + 1 : 7;
  }
  if (win_size < 1 || win_size % 2 == 0) throw UsageError(concat("SSIM: win_size ", win_size, " is not odd"));
  if (shape.height < win_size || shape.width < win_size) {
    throw UsageError(
        concat("SSIM: the window of ", win_size, " is larger than a picture of ", shape.width, "x", shape.height),
        "give an odd win_size of at most the smaller side");
  }
  if (options.use_sample_covariance && win_size == 1) throw UsageError("SSIM: a window of 1 has no sample covariance");
  return win_size;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0.0 : sum / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

double capped_db(double mse) { return mse < kCapMse ? kCapDb : 20.0 * std::log10(1.0 / std::sqrt(mse)); }

}  // namespace

double mean_squared_error(std::span<const double> a, std::span<const double> b) {
  check_same(a, b);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

double peak_signal_noise_ratio(std::span<const double> a, std::span<const double> b, double data_range) {
  if (!(data_range > 0)) throw UsageError("PSNR: data_range must be positive");
  const double mse = mean_squared_error(a, b);
  if (mse == 0) return std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(data_range * data_range / mse);
}

double psnr_capped(std::span<const double> a, std::span<const double> b) { return capped_db(mean_squared_error(a, b)); }

SsimOptions gaussian_ssim(double data_range) {
  SsimOptions options;
  options.data_range = data_range;
  options.gaussian_weights = true;
  options.use_sample_covariance = false;
  return options;
}

Ssim structural_similarity(std::span<const double> a, std::span<const double> b, const ImageShape& shape,
                           const SsimOptions& options, bool want_map) {
  check_same(a, b);
  if (shape.height < 1 || shape.width < 1 || shape.channels < 1 ||
      static_cast<size_t>(shape.height * shape.width * shape.channels) != a.size()) {
    throw UsageError(
        concat("SSIM: ", a.size(), " values are no picture of ", shape.width, "x", shape.height, "x", shape.channels));
  }
  const int64_t win_size = checked_window(shape, options);
  const double count = static_cast<double>(win_size * win_size);
  const double norm = options.use_sample_covariance ? count / (count - 1) : 1.0;
  const double c1 = std::pow(options.k1 * options.data_range, 2);
  const double c2 = std::pow(options.k2 * options.data_range, 2);
  const int64_t crop = (win_size - 1) / 2;
  const auto pixels = static_cast<size_t>(shape.height * shape.width);

  Ssim result;
  if (want_map) result.map.resize(a.size());
  WindowFilter filter(window_weights(options, win_size), shape.height, shape.width);
  for (int64_t channel = 0; channel < shape.channels; ++channel) {
    const std::vector<double> x = plane_of(a, shape, channel), y = plane_of(b, shape, channel);
    const std::vector<double> ux = filter(x), uy = filter(y);
    const std::vector<double> uxx = filter(product(x, x)), uyy = filter(product(y, y)), uxy = filter(product(x, y));
    double sum = 0;
    for (size_t i = 0; i < pixels; ++i) {
      const double vx = norm * (uxx[i] - ux[i] * ux[i]);
      const double vy = norm * (uyy[i] - uy[i] * uy[i]);
      const double vxy = norm * (uxy[i] - ux[i] * uy[i]);
      const double s =
          (2 * ux[i] * uy[i] + c1) * (2 * vxy + c2) / ((ux[i] * ux[i] + uy[i] * uy[i] + c1) * (vx + vy + c2));
      if (want_map) {
        const auto c = static_cast<size_t>(channel);
        result.map[shape.channels_first ? c * pixels + i : i * static_cast<size_t>(shape.channels) + c] = s;
      }
      const int64_t row = static_cast<int64_t>(i) / shape.width, column = static_cast<int64_t>(i) % shape.width;
      const bool inside = row >= crop && row < shape.height - crop && column >= crop && column < shape.width - crop;
      if (inside) sum += s;
    }
    result.mean += sum / static_cast<double>((shape.height - 2 * crop) * (shape.width - 2 * crop));
  }
  result.mean /= static_cast<double>(shape.channels);
  return result;
}

VideoSetMetrics video_set_metrics(std::span<const double> a, std::span<const double> b, int64_t videos, int64_t frames,
                                  int64_t height, int64_t width) {
  check_same(a, b);
  const ImageShape shape{height, width, 3, true};
  const int64_t size = 3 * height * width;
  if (videos < 1 || frames < 1 || size < 1 || static_cast<size_t>(videos * frames * size) != a.size()) {
    throw UsageError(concat("metrics: ", a.size(), " values are no videos [", videos, ", ", frames, ", 3, ", height,
                            ", ", width, "]"));
  }
  VideoSetMetrics result;
  for (int64_t t = 0; t < frames; ++t) {
    std::vector<double> psnr, ssim;
    for (int64_t n = 0; n < videos; ++n) {
      const auto at = static_cast<size_t>((n * frames + t) * size), length = static_cast<size_t>(size);
      psnr.push_back(psnr_capped(a.subspan(at, length), b.subspan(at, length)));
      ssim.push_back(structural_similarity(a.subspan(at, length), b.subspan(at, length), shape, gaussian_ssim()).mean);
    }
    result.psnr.push_back(mean_of(psnr));
    result.psnr_std.push_back(deviation_of(psnr));
    result.ssim.push_back(mean_of(ssim));
    result.ssim_std.push_back(deviation_of(ssim));
  }
  return result;
}

ClipMetrics compare_clips(const Frames& a, const Frames& b, const std::function<void(int64_t frame)>& before_frame) {
  if (a.frames != b.frames || a.height != b.height || a.width != b.width) {
    throw UsageError(concat("the clips differ in size: ", a.frames, " frames of ", a.width, "x", a.height, " and ",
                            b.frames, " frames of ", b.width, "x", b.height),
                     "compare clips of equal frames, height and width");
  }
  check(a);
  check(b);
  const ImageShape shape{a.height, a.width, 3, false};
  const auto size = static_cast<size_t>(a.height * a.width * 3);
  const bool has_ssim = a.height >= kGaussianSide && a.width >= kGaussianSide;
  ClipMetrics result;
  std::vector<double> x(size), y(size);
  for (size_t t = 0; t < static_cast<size_t>(a.frames); ++t) {
    if (before_frame) before_frame(static_cast<int64_t>(t));
    for (size_t i = 0; i < size; ++i) {
      x[i] = a.rgb[t * size + i] / 255.0;
      y[i] = b.rgb[t * size + i] / 255.0;
    }
    const double mse = mean_squared_error(x, y);
    result.mse += mse / static_cast<double>(a.frames);
    result.psnr.push_back(capped_db(mse));
    if (has_ssim) result.ssim.push_back(structural_similarity(x, y, shape, gaussian_ssim()).mean);
  }
  result.psnr_mean = mean_of(result.psnr);
  result.psnr_clip = capped_db(result.mse);
  result.ssim_mean = mean_of(result.ssim);
  return result;
}

}  // namespace kinora::media
