#include "kinora/media/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"

namespace kinora::media {
namespace {

/// The recipe of tests/cases: splitmix64 from the FNV-1a hash of the input's name.
std::vector<double> recipe(const std::string& name, size_t count, double scale, double shift) {
  constexpr uint64_t kStep = 0x9E3779B97F4A7C15;
  uint64_t seed = 0xcbf29ce484222325;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  std::vector<double> out(count);
  for (size_t i = 0; i < count; ++i) {
    uint64_t z = seed + (i + 1) * kStep;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    const double u = 2 * (static_cast<double>(z >> 40) / 16777216.0) - 1;
    out[i] = static_cast<float>(u * static_cast<float>(scale) + static_cast<float>(shift));
  }
  return out;
}

struct Case {
  Json meta;
  std::string header, data;
  Json tensors;

  explicit Case(const std::filesystem::path& path) {
    const std::string bytes = read_file(path, 1 << 20);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    tensors = parse_json(bytes.substr(8, length), {}, "case");
    data = bytes.substr(8 + length);
    meta = parse_json(tensors["__metadata__"]["case"].get<std::string>(), {}, "case");
  }
  std::vector<double> input(const std::string& name) const {
    const Json& r = meta["inputs"][name]["recipe"];
    size_t count = 1;
    for (const Json& side : r["shape"]) count *= side.get<size_t>();
    return recipe("input." + name, count, r["scale"].get<double>(), r["shift"].get<double>());
  }
  std::vector<double> output(const std::string& name) const {
    const Json& offsets = tensors["output." + name]["data_offsets"];
    const size_t begin = offsets[0].get<size_t>(), end = offsets[1].get<size_t>();
    std::vector<float> values((end - begin) / 4);
    std::memcpy(values.data(), data.data() + begin, end - begin);
    return {values.begin(), values.end()};
  }
};

void expect_close(const std::vector<double>& got, const std::vector<double>& want, double rtol) {
  ASSERT_EQ(got.size(), want.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  EXPECT_LE(std::sqrt(error), rtol * std::sqrt(norm));
}

SsimOptions options_of(const Json& args) {
  SsimOptions options;
  options.data_range = args.value("data_range", 1.0);
  options.gaussian_weights = args.value("gaussian_weights", false);
  options.sigma = args.value("sigma", 1.5);
  options.win_size = args.value("win_size", int64_t{0});
  options.use_sample_covariance = args.value("use_sample_covariance", true);
  return options;
}

std::vector<double> random_picture(size_t count, const std::string& name) { return recipe(name, count, 0.5, 0.5); }

TEST(Metrics, EveryCaseOfSkimageIsMet) {
  int num_cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/cases/metrics")) {
    SCOPED_TRACE(entry.path().filename().string());
    const Case c(entry.path());
    std::vector<double> a = c.input("a"), b = c.input("noise");
    for (size_t i = 0; i < a.size(); ++i) b[i] = std::clamp(a[i] + b[i], 0.0, 1.0);
    if (c.meta["call"].value("uint8", false)) {
      for (auto* values : {&a, &b}) {
        for (double& value : *values) value = std::floor(255 * value + 0.5);
      }
    }
    const Json& shape = c.meta["inputs"]["a"]["recipe"]["shape"];
    const auto frames = shape[0].get<size_t>(), size = a.size() / frames;
    const ImageShape image{shape[1].get<int64_t>(), shape[2].get<int64_t>(), shape[3].get<int64_t>()};
    const SsimOptions options = options_of(c.meta["call"]["args"]);
    const std::string cls = c.meta["cls"].get<std::string>();
    std::vector<double> got;
    for (size_t t = 0; t < frames; ++t) {
      const std::span<const double> x(&a[t * size], size), y(&b[t * size], size);
      if (cls == "mean_squared_error") got.push_back(mean_squared_error(x, y));
      if (cls == "peak_signal_noise_ratio") got.push_back(peak_signal_noise_ratio(x, y, options.data_range));
      if (cls == "structural_similarity") got.push_back(structural_similarity(x, y, image, options).mean);
    }
    expect_close(got, c.output("frames"), 1e-6);
    if (c.meta["call"].value("map", false)) {
      expect_close(structural_similarity(std::span(a).first(size), std::span(b).first(size), image, options, true).map,
                   c.output("map"), 1e-6);
    }
    ++num_cases;
  }
  EXPECT_EQ(num_cases, 13);
}

TEST(Metrics, TheVideoSetNumbersAreThoseOfVideoSys) {
  const Case c("tests/cases/video/metrics_0.safetensors");
  const std::vector<double> a = c.input("a");
  std::vector<double> b = c.input("d");
  const size_t frame = 3 * 16 * 20;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool is_first_frame = i / frame % 3 == 0;
    b[i] = is_first_frame ? a[i] : std::clamp(a[i] + b[i], 0.0, 1.0);
  }
  const VideoSetMetrics got = video_set_metrics(a, b, 2, 3, 16, 20);
  const auto want = [&](const char* name) { return c.meta["outputs"][name]["value"].get<std::vector<double>>(); };
  expect_close(got.psnr, want("psnr"), 1e-6);
  expect_close(got.psnr_std, want("psnr_std"), 1e-4);
  expect_close(got.ssim, want("ssim"), 1e-6);
  expect_close(got.ssim_std, want("ssim_std"), 1e-4);
}

TEST(Metrics, SsimOfUniformWindowEqualsTheNaiveLoop) {
  constexpr int64_t kHeight = 9, kWidth = 13, kWindow = 7;
  const std::vector<double> a = random_picture(kHeight * kWidth, "a"), b = random_picture(kHeight * kWidth, "b");
  double sum = 0;
  for (int64_t y = 3; y < kHeight - 3; ++y) {
    for (int64_t x = 3; x < kWidth - 3; ++x) {
      double n = 0, ux = 0, uy = 0, xx = 0, yy = 0, xy = 0;
      for (int64_t i = y - 3; i <= y + 3; ++i) {
        for (int64_t j = x - 3; j <= x + 3; ++j, ++n) {
          const double p = a[static_cast<size_t>(i * kWidth + j)], q = b[static_cast<size_t>(i * kWidth + j)];
          ux += p, uy += q, xx += p * p, yy += q * q, xy += p * q;
        }
      }
      ux /= n, uy /= n;
      const double vx = (xx - n * ux * ux) / (n - 1), vy = (yy - n * uy * uy) / (n - 1),
                   vxy = (xy - n * ux * uy) / (n - 1);
      sum += (2 * ux * uy + 1e-4) * (2 * vxy + 9e-4) / ((ux * ux + uy * uy + 1e-4) * (vx + vy + 9e-4));
    }
  }
  const double want = sum / ((kHeight - 6) * (kWidth - 6));
  EXPECT_NEAR(structural_similarity(a, b, {kHeight, kWidth, 1}, {.win_size = kWindow}).mean, want, 1e-12);
}

TEST(Metrics, ChannelOrderDoesNotMatter) {
  const std::vector<double> a = random_picture(3 * 12 * 11, "a"), b = random_picture(3 * 12 * 11, "b");
  std::vector<double> c(a.size()), d(b.size());
  for (size_t i = 0; i < 132; ++i) {
    for (size_t k = 0; k < 3; ++k) c[k * 132 + i] = a[3 * i + k], d[k * 132 + i] = b[3 * i + k];
  }
  EXPECT_NEAR(structural_similarity(a, b, {12, 11, 3}, gaussian_ssim()).mean,
              structural_similarity(c, d, {12, 11, 3, true}, gaussian_ssim()).mean, 1e-12);
}

TEST(Metrics, EqualPicturesReachTheTop) {
  const std::vector<double> a = random_picture(17 * 13, "a");
  EXPECT_EQ(mean_squared_error(a, a), 0.0);
  EXPECT_TRUE(std::isinf(peak_signal_noise_ratio(a, a, 1.0)));
  EXPECT_EQ(psnr_capped(a, a), 100.0);
  EXPECT_NEAR(structural_similarity(a, a, {17, 13, 1}, gaussian_ssim()).mean, 1.0, 1e-12);
}

TEST(Metrics, WhatCannotBeComparedIsRefused) {
  const std::vector<double> a(12 * 12, 0.5), small(5, 0.5), none;
  EXPECT_THROW(mean_squared_error(a, small), UsageError);
  EXPECT_THROW(mean_squared_error(none, none), UsageError);
  EXPECT_THROW(peak_signal_noise_ratio(a, a, 0.0), UsageError);
  EXPECT_THROW(structural_similarity(a, a, {12, 11, 1}, {}), UsageError);
  EXPECT_THROW(structural_similarity(a, a, {12, 12, 1}, {.win_size = 8}), UsageError);
  EXPECT_THROW(structural_similarity(a, a, {12, 12, 1}, {.win_size = 13}), UsageError);
  EXPECT_THROW(structural_similarity(a, a, {12, 12, 1}, {.win_size = 1}), UsageError);
  EXPECT_THROW(structural_similarity(a, a, {12, 12, 1}, {.data_range = 0}), UsageError);
  EXPECT_THROW(structural_similarity(a, a, {12, 12, 1}, {.gaussian_weights = true, .sigma = 0}), UsageError);
  EXPECT_THROW(video_set_metrics(a, a, 1, 1, 12, 12), UsageError);
}

TEST(Metrics, ClipsAreComparedFrameByFrame) {
  Frames a = make_frames(3, 17, 33), b = a;
  for (size_t i = 0; i < a.rgb.size(); ++i) a.rgb[i] = b.rgb[i] = static_cast<uint8_t>(i * 7 % 256);
  for (int64_t i = 0; i < a.frame_bytes(); ++i) b.frame(1)[i] = static_cast<uint8_t>(b.frame(1)[i] ^ 1);
  const ClipMetrics got = compare_clips(a, b);
  ASSERT_EQ(got.psnr.size(), 3u);
  EXPECT_EQ(got.psnr[0], 100.0);
  EXPECT_NEAR(got.psnr[1], 20 * std::log10(255.0), 1e-9);
  EXPECT_NEAR(got.psnr_clip, 20 * std::log10(255.0) + 10 * std::log10(3.0), 1e-9);
  EXPECT_LE(got.psnr_clip, got.psnr_mean);
  EXPECT_LT(got.ssim[1], 1.0);
  EXPECT_TRUE(compare_clips(make_frames(1, 10, 40), make_frames(1, 10, 40)).ssim.empty());
  EXPECT_THROW(compare_clips(a, make_frames(3, 33, 17)), UsageError);
  EXPECT_THROW(compare_clips(a, make_frames(2, 17, 33)), UsageError);
}

TEST(Metrics, AComparisonOfClipsCanBeEndedBetweenFrames) {
  const Frames a = make_frames(3, 12, 12);
  std::vector<int64_t> seen;
  const auto stop_at_1 = [&seen](int64_t frame) {
    seen.push_back(frame);
    if (frame == 1) throw CancelledError();
  };
  EXPECT_THROW(compare_clips(a, a, stop_at_1), CancelledError);
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 1}));
}

}  // namespace
}  // namespace kinora::media
