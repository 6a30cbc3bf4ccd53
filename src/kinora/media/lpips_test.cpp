#include "kinora/media/lpips.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/test_folder.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/media/test_clips.h"
#include "kinora/tensor/convert.h"
#include "kinora/tensor/random.h"

namespace kinora::media {
namespace {

/// One line of torchvision's `features`: a convolution (with the ReLU behind it) or a pooling, and whether a feature that
/// LPIPS compares ends there.
struct Line {
  int index;
  int64_t kernel, stride, padding;
  bool is_pool = false, ends = false;
};

const std::vector<Line> kAlex = {{0, 11, 4, 2, false, true}, {2, 3, 2, 0, true},        {3, 5, 1, 2, false, true},
                                 {5, 3, 2, 0, true},         {6, 3, 1, 1, false, true}, {8, 3, 1, 1, false, true},
                                 {10, 3, 1, 1, false, true}};
const std::vector<Line> kVgg = {{0, 3, 1, 1},
                                {2, 3, 1, 1, false, true},
                                {4, 2, 2, 0, true},
                                {5, 3, 1, 1},
                                {7, 3, 1, 1, false, true},
                                {9, 2, 2, 0, true},
                                {10, 3, 1, 1},
                                {12, 3, 1, 1},
                                {14, 3, 1, 1, false, true},
                                {16, 2, 2, 0, true},
                                {17, 3, 1, 1},
                                {19, 3, 1, 1},
                                {21, 3, 1, 1, false, true},
                                {23, 2, 2, 0, true},
                                {24, 3, 1, 1},
                                {26, 3, 1, 1},
                                {28, 3, 1, 1, false, true}};

/// Random weights of few channels, which differ from layer to layer.
NamedTensors small_weights(const std::vector<Line>& lines) {
  at::Generator generator = cpu_generator(7);
  const auto draw = [&](std::vector<int64_t> shape) { return randn(shape, generator, at::kFloat, at::kCPU); };
  NamedTensors out;
  int64_t in = 3, stage = 0;
  for (const Line& line : lines) {
    if (!line.is_pool) {
      const int64_t channels = 2 + line.index % 3;
      const std::string name = "features." + std::to_string(line.index);
      out.emplace_back(name + ".weight", draw({channels, in, line.kernel, line.kernel}) / line.kernel);
      out.emplace_back(name + ".bias", draw({channels}));
      in = channels;
    }
    if (line.ends) out.emplace_back("lin" + std::to_string(stage++) + ".model.1.weight", draw({1, in, 1, 1}).abs());
  }
  out.emplace_back("classifier.1.weight", draw({4, 4}));
  return out;
}

/// A picture or feature [C][H][W] in plain loops and double precision.
struct Map {
  int64_t channels, height, width;
  std::vector<double> values;
  double& at(int64_t c, int64_t y, int64_t x) { return values[(c * height + y) * width + x]; }
  double at(int64_t c, int64_t y, int64_t x) const { return values[(c * height + y) * width + x]; }
};

Map sized(int64_t channels, int64_t height, int64_t width) {
  return {channels, height, width, std::vector<double>(channels * height * width)};
}

Map pooled(const Map& in, const Line& l) {
  Map out = sized(in.channels, (in.height - l.kernel) / l.stride + 1, (in.width - l.kernel) / l.stride + 1);
  for (int64_t c = 0; c < out.channels; ++c)
    for (int64_t y = 0; y < out.height; ++y)
      for (int64_t x = 0; x < out.width; ++x) {
        double most = -INFINITY;
        for (int64_t i = 0; i < l.kernel * l.kernel; ++i)
          most = std::max(most, in.at(c, y * l.stride + i / l.kernel, x * l.stride + i % l.kernel));
        out.at(c, y, x) = most;
      }
  return out;
}

Map convolved(const Map& in, const at::Tensor& weight, const at::Tensor& bias, const Line& l) {
  const auto w = weight.accessor<float, 4>();
  Map out = sized(weight.size(0), (in.height + 2 * l.padding - l.kernel) / l.stride + 1,
                  (in.width + 2 * l.padding - l.kernel) / l.stride + 1);
  for (int64_t o = 0; o < out.channels; ++o)
    for (int64_t y = 0; y < out.height; ++y)
      for (int64_t x = 0; x < out.width; ++x) {
        double sum = bias[o].item<double>();
        for (int64_t c = 0; c < in.channels; ++c)
          for (int64_t i = 0; i < l.kernel * l.kernel; ++i) {
            const int64_t sy = y * l.stride - l.padding + i / l.kernel, sx = x * l.stride - l.padding + i % l.kernel;
            if (sy >= 0 && sx >= 0 && sy < in.height && sx < in.width)
              sum += w[o][c][i / l.kernel][i % l.kernel] * in.at(c, sy, sx);
          }
        out.at(o, y, x) = std::max(0.0, sum);
      }
  return out;
}

at::Tensor tensor_of(const NamedTensors& weights, const std::string& name) {
  for (const auto& [n, t] : weights)
    if (n == name) return t;
  throw std::out_of_range(name);
}

/// Every feature that is compared, of frame `t`.
std::vector<Map> features_by_hand(const std::vector<Line>& lines, const NamedTensors& weights, const Frames& clip,
                                  int64_t t) {
  constexpr double kMean[] = {-.030, -.088, -.188}, kDeviation[] = {.458, .448, .450};
  Map x = sized(3, clip.height, clip.width);
  for (int64_t i = 0; i < clip.height * clip.width; ++i)
    for (int64_t c = 0; c < 3; ++c)
      x.values[c * clip.height * clip.width + i] = (clip.frame(t)[3 * i + c] / 127.5 - 1 - kMean[c]) / kDeviation[c];
  std::vector<Map> out;
  for (const Line& line : lines) {
    const std::string name = "features." + std::to_string(line.index);
    x = line.is_pool ? pooled(x, line)
                     : convolved(x, tensor_of(weights, name + ".weight"), tensor_of(weights, name + ".bias"), line);
    if (line.ends) out.push_back(x);
  }
  return out;
}

double distance_by_hand(const std::vector<Line>& lines, const NamedTensors& weights, const Frames& a, const Frames& b,
                        int64_t t) {
  const auto fa = features_by_hand(lines, weights, a, t), fb = features_by_hand(lines, weights, b, t);
  double total = 0;
  for (size_t s = 0; s < fa.size(); ++s) {
    const at::Tensor linear = tensor_of(weights, "lin" + std::to_string(s) + ".model.1.weight").flatten();
    double sum = 0;
    for (int64_t y = 0; y < fa[s].height; ++y)
      for (int64_t x = 0; x < fa[s].width; ++x) {
        double la = 0, lb = 0;
        for (int64_t c = 0; c < fa[s].channels; ++c)
          la += std::pow(fa[s].at(c, y, x), 2), lb += std::pow(fb[s].at(c, y, x), 2);
        for (int64_t c = 0; c < fa[s].channels; ++c) {
          const double d = fa[s].at(c, y, x) / (std::sqrt(la) + 1e-10) - fb[s].at(c, y, x) / (std::sqrt(lb) + 1e-10);
          sum += linear[c].item<double>() * d * d;
        }
      }
    total += sum / static_cast<double>(fa[s].height * fa[s].width);
  }
  return total;
}

Frames pattern(int64_t frames, int64_t height, int64_t width, int64_t seed) {
  Frames clip = make_frames(frames, height, width);
  for (size_t i = 0; i < clip.rgb.size(); ++i)
    clip.rgb[i] = static_cast<uint8_t>((i * i * (seed + 3) + 31 * i + static_cast<size_t>(seed) * 57) % 251);
  return clip;
}

class LpipsTest : public testing::TestWithParam<const std::vector<Line>*> {
 protected:
  Lpips load(const NamedTensors& weights) {
    save_tensors(folder_ / "lpips.safetensors", weights);
    return Lpips::load(folder_ / "lpips.safetensors");
  }
  TempFolder folder_;
};

TEST_P(LpipsTest, EqualsTheDefinitionInPlainLoops) {
  const NamedTensors weights = small_weights(*GetParam());
  const Lpips lpips = load(weights);
  const Frames a = pattern(2, 37, 45, 1), b = pattern(2, 37, 45, 2);
  const std::vector<double> got = lpips.compare(a, b);
  ASSERT_EQ(got.size(), 2u);
  for (int64_t t = 0; t < 2; ++t) {
    const double wanted = distance_by_hand(*GetParam(), weights, a, b, t);
    EXPECT_GT(wanted, 0.05);
    EXPECT_NEAR(got[t], wanted, 2e-5 * wanted);
  }
  EXPECT_EQ(lpips.compare(a, a), std::vector<double>(2, 0.0));
}

TEST_P(LpipsTest, TheSmallestPictureWorksAndOneBelowIsRefused) {
  const Lpips lpips = load(small_weights(*GetParam()));
  const int64_t side = lpips.least_side();
  EXPECT_GT(lpips.compare(pattern(1, side, side, 1), pattern(1, side, side, 2)).at(0), 0.0);
  EXPECT_THROW(lpips.compare(pattern(1, side - 1, 64, 1), pattern(1, side - 1, 64, 2)), UsageError);
  EXPECT_THROW(lpips.compare(pattern(1, 64, 64, 1), pattern(2, 64, 64, 2)), UsageError);
}

TEST_P(LpipsTest, WhatIsMissingOrMisshapenIsNamed) {
  const NamedTensors whole = small_weights(*GetParam());
  const auto refused = [&](const NamedTensors& weights, const std::string& says) {
    try {
      load(weights);
      ADD_FAILURE() << "was taken, without " << says;
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  };
  for (const char* name : {"features.0.weight", "features.0.bias", "features.10.weight", "lin3.model.1.weight"}) {
    NamedTensors without, misshapen = whole, damaged = whole;
    for (const auto& named : whole)
      if (named.first != name) without.push_back(named);
    refused(without, name);
    for (auto& [n, tensor] : misshapen)
      if (n == name) tensor = at::cat({tensor, tensor});
    if (std::string(name) != "features.10.weight" && std::string(name) != "features.0.weight") refused(misshapen, name);
    for (auto& [n, tensor] : damaged)
      if (n == name) tensor = tensor / 0.0;
    refused(damaged, name);
  }
}

INSTANTIATE_TEST_SUITE_P(Trunks, LpipsTest, testing::Values(&kAlex, &kVgg),
                         [](const auto& one) { return one.param == &kAlex ? "AlexNet" : "Vgg16"; });

TEST(LpipsFolder, TakesTrunkAndLinearLayersFromTwoFiles) {
  const TempFolder folder;
  NamedTensors trunk, linear;
  for (const auto& named : small_weights(kAlex)) (named.first.starts_with("lin") ? linear : trunk).push_back(named);
  save_tensors(folder / "alexnet.safetensors", trunk);
  save_tensors(folder / "linear.safetensors", linear);
  EXPECT_EQ(Lpips::load(folder.path()).trunk(), "AlexNet");
  EXPECT_THROW(Lpips::load(folder / "nowhere"), UsageError);
}

}  // namespace
}  // namespace kinora::media
