// Picture metrics in double precision: MSE, PSNR, SSIM. Formulas and variants follow the two public tools that
// published numbers come from: scikit-image's skimage.metrics (0.26) and the frame metrics of VideoSys and TeaCache.
// Legend: T frames, H/W height/width, C channels. Values are plain numbers in [0, data_range].
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::media {

/// One picture's layout: [H, W, C], or [C, H, W] when channels_first.
struct ImageShape {
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 1;
  bool channels_first = false;
};

/// MSE = sum((a - b)^2) / n. Throws UsageError when the sizes differ or are zero.
double mean_squared_error(std::span<const double> a, std::span<const double> b);

/// PSNR = 10 log10(data_range^2 / MSE) in dB; infinite for equal pictures (skimage).
double peak_signal_noise_ratio(std::span<const double> a, std::span<const double> b, double data_range);

/// PSNR of VideoSys, peak 1: 20 log10(1 / sqrt(MSE)), and 100 where MSE < 1e-10.
double psnr_capped(std::span<const double> a, std::span<const double> b);

/// The defaults are skimage's: a uniform 7x7 window and the sample covariance.
struct SsimOptions {
  double data_range = 1.0;
  bool gaussian_weights = false;  ///< Gaussian window of radius floor(3.5 sigma + 0.5), edges mirrored
  double sigma = 1.5;
  int64_t win_size = 0;               ///< odd; 0: 7, or the Gaussian's 2 radius + 1
  bool use_sample_covariance = true;  ///< (co)variances times NP / (NP - 1), NP = win_size^2
  double k1 = 0.01;
  double k2 = 0.03;
};

/// Window of Wang et al. 2004, as published video numbers use it: Gaussian 11x11, sigma 1.5, population covariance.
SsimOptions gaussian_ssim(double data_range = 1.0);

struct Ssim {
  double mean = 0;          ///< over the pixels (win_size - 1) / 2 or more from every edge, then over channels
  std::vector<double> map;  ///< the value at every pixel, in the layout of the input; empty unless asked for
};

/// SSIM (Wang et al. 2004, eq. 13): with u, v the window's means and (co)variances, C1 = (k1 R)^2, C2 = (k2 R)^2,
///   s = (2 ux uy + C1)(2 vxy + C2) / ((ux^2 + uy^2 + C1)(vx + vy + C2)).
/// Throws UsageError when a side is below win_size, win_size is even, or the sizes do not fit the shape.
Ssim structural_similarity(std::span<const double> a, std::span<const double> b, const ImageShape& shape,
                           const SsimOptions& options, bool want_map = false);

/// Per-frame numbers over a set of videos, as VideoSys reports them: [T] means and population deviations.
struct VideoSetMetrics {
  std::vector<double> psnr, psnr_std, ssim, ssim_std;
};

/// a, b [N, T, 3, H, W] in [0, 1]: psnr_capped and gaussian_ssim of each frame. Sides of at least 11.
VideoSetMetrics video_set_metrics(std::span<const double> a, std::span<const double> b, int64_t videos, int64_t frames,
                                  int64_t height, int64_t width);

/// One clip against another. Values of 8 bits are divided by 255.
struct ClipMetrics {
  std::vector<double> psnr;  ///< [T], psnr_capped
  std::vector<double> ssim;  ///< [T], gaussian_ssim; empty when a side is below 11
  double psnr_mean = 0;      ///< mean over frames (VideoSys, TeaCache)
  double psnr_clip = 0;      ///< from one MSE over the whole clip (EasyCache); at most psnr_mean
  double ssim_mean = 0;
  double mse = 0;  ///< over the whole clip
};

/// Compares two clips of equal frames, height and width; UsageError otherwise. `before_frame` is told of each frame
/// before its work; what it throws ends the comparison.
ClipMetrics compare_clips(const Frames& a, const Frames& b,
                          const std::function<void(int64_t frame)>& before_frame = {});

}  // namespace kinora::media
