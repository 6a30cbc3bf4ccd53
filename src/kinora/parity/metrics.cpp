// Runners of the picture metrics.
#include "kinora/media/metrics.h"

#include "kinora/base/error.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

std::span<const double> values(const Tensor& contiguous) {
  return {contiguous.const_data_ptr<double>(), static_cast<size_t>(contiguous.numel())};
}

struct Pair {
  Tensor a, b;  ///< [T, H, W, C] float64
};

/// b = clip(a + noise); call.uint8: both as bytes.
Pair videos(const Case& c) {
  Pair out{c.input("a").to(at::kDouble), {}};
  out.b = (out.a + c.input("noise").to(at::kDouble)).clamp(0, 1);
  if (JsonObject(c.call, "call").bool_or("uint8", false)) {
    for (Tensor* video : {&out.a, &out.b}) *video = (*video * 255 + 0.5).floor();
  }
  out.a = out.a.contiguous();
  out.b = out.b.contiguous();
  return out;
}

template <typename Metric>
Outputs each_frame(const Pair& pair, const Metric& metric) {
  std::vector<double> frames;
  for (int64_t t = 0; t < pair.a.size(0); ++t) frames.push_back(metric(values(pair.a[t]), values(pair.b[t])));
  Outputs out;
  out.tensors["frames"] = at::tensor(frames, at::kDouble);
  out.tensors["mean"] = out.tensors["frames"].mean().view({1});
  return out;
}

Outputs mse(const Case& c) { return each_frame(videos(c), media::mean_squared_error); }

Outputs psnr(const Case& c) {
  const double data_range = JsonObject(c.call.at("args"), "call.args").require_number("data_range");
  return each_frame(videos(c), [&](auto a, auto b) { return media::peak_signal_noise_ratio(a, b, data_range); });
}

Outputs ssim(const Case& c) {
  const JsonObject args(c.call.at("args"), "call.args");
  media::SsimOptions options;
  options.data_range = args.number_or("data_range", options.data_range);
  options.gaussian_weights = args.bool_or("gaussian_weights", options.gaussian_weights);
  options.sigma = args.number_or("sigma", options.sigma);
  options.win_size = args.int_or("win_size", options.win_size);
  options.use_sample_covariance = args.bool_or("use_sample_covariance", options.use_sample_covariance);
  options.k1 = args.number_or("K1", options.k1);
  options.k2 = args.number_or("K2", options.k2);
  args.refuse_unknown();
  const Pair pair = videos(c);
  const media::ImageShape shape{pair.a.size(1), pair.a.size(2), pair.a.size(3)};
  Outputs out =
      each_frame(pair, [&](auto a, auto b) { return media::structural_similarity(a, b, shape, options).mean; });
  if (JsonObject(c.call, "call").bool_or("map", false)) {
    const media::Ssim first = media::structural_similarity(values(pair.a[0]), values(pair.b[0]), shape, options, true);
    const Tensor map = at::tensor(first.map, at::kDouble).reshape(pair.a[0].sizes());
    out.tensors["map"] = shape.channels == 1 ? map.squeeze(-1) : map;
  }
  return out;
}

/// Two sets of videos [N, T, 3, H, W]: b = clamp(a + d), but frame 0 equals a's.
Outputs video_sets(const Case& c) {
  const Tensor a = c.input("a").to(at::kDouble).contiguous();
  const Tensor b = (a + c.input("d").to(at::kDouble)).clamp(0, 1).contiguous();
  b.select(1, 0).copy_(a.select(1, 0));
  const auto got = media::video_set_metrics(values(a), values(b), a.size(0), a.size(1), a.size(3), a.size(4));
  Outputs out;
  out.values = {{"psnr", got.psnr}, {"psnr_std", got.psnr_std}, {"ssim", got.ssim}, {"ssim_std", got.ssim_std}};
  return out;
}

}  // namespace

void add_metrics(Registry& registry) {
  registry.add("mean_squared_error", "frames", mse);
  registry.add("peak_signal_noise_ratio", "frames", psnr);
  registry.add("structural_similarity", "frames", ssim);
  registry.add("metrics", "psnr+ssim", video_sets);
}

}  // namespace kinora::parity
