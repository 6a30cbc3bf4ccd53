// LPIPS v0.1 (Zhang et al. 2018): how far apart two pictures are to a network that was trained to see, and linear layers
// that were fitted to what people judge. The weights are the user's; the numbers are those of the PyPI package lpips.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kinora/media/frames.h"

namespace kinora::media {

/// One convolution of the trunk, followed by a ReLU. Stages end where features are compared.
struct LpipsConv {
  at::Tensor weight, bias;  ///< [out, in, k, k], [out]; float32
  int64_t stride = 1, padding = 0;
};

class Lpips {
 public:
  /// A safetensors file, or a folder of some, which holds a trunk as torchvision names it and the five linear layers:
  ///   AlexNet  features.{0,3,6,8,10}.weight, .bias
  ///   VGG16    features.{0,2,5,7,10,12,14,17,19,21,24,26,28}.weight, .bias
  ///   both     lin0.model.1.weight .. lin4.model.1.weight, [1, channels, 1, 1]
  /// The first convolution tells the two apart. Other tensors (classifier.*) are left alone. Throws as Checkpoint, and
  /// DataError for a tensor that is missing, not finite or of a shape that does not fit.
  static Lpips load(const std::filesystem::path& path);

  /// "AlexNet" or "VGG16".
  const std::string& trunk() const { return trunk_; }
  /// Throws UsageError for pictures that are smaller than the trunk's poolings allow.
  void check_size(int64_t height, int64_t width) const;
  /// Pixels that a side must have.
  int64_t least_side() const { return least_side_; }
  /// The distance of each frame pair, [T]. `before_frame` as in compare_clips. Throws UsageError for clips that differ in
  /// size, and as check_size.
  std::vector<double> compare(const Frames& a, const Frames& b,
                              const std::function<void(int64_t frame)>& before_frame = {}) const;
  /// Of pictures [N, 3, H, W] in -1 .. 1: [N].
  at::Tensor distance(const at::Tensor& a, const at::Tensor& b) const;

 private:
  std::vector<at::Tensor> features(const at::Tensor& pictures) const;

  std::string trunk_;
  int64_t least_side_ = 0, pool_side_ = 0;
  std::vector<std::vector<LpipsConv>> stages_;  ///< a pooling stands before each that `pools_` names
  std::vector<bool> pools_;
  std::vector<at::Tensor> linear_;  ///< [1, C, 1, 1]
};

}  // namespace kinora::media
