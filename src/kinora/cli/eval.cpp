// kinora eval: how near one clip is to another, frame by frame; with --cache, the table of eval_prompts.
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"
#include "kinora/cli/eval_prompts.h"
#include "kinora/media/lpips.h"
#include "kinora/media/metrics.h"
#include "kinora/media/output.h"

namespace kinora::cli {
namespace {

constexpr const char* kPsnrFrames = "mean over frames of 20 log10(1 / sqrt(MSE)), 100 where MSE < 1e-10";
constexpr const char* kPsnrClip = "from one MSE over the whole clip";
constexpr const char* kSsim = "Gaussian 11x11, sigma 1.5, valid pixels; mean over pixels, channels, frames";
constexpr const char* kLpips = "v0.1; mean over frames";

struct Options {
  std::string a, b, lpips;
  bool json = false, frames = false;
  PromptsOptions prompts;
};

struct Distances {
  std::string trunk;
  std::vector<double> lpips;  ///< of each frame

  double mean() const {
    double sum = 0;
    for (const double value : lpips) sum += value;
    return sum / static_cast<double>(lpips.size());
  }
};

std::string size_text(const std::string& path, const media::Frames& clip) {
  return concat("'", printable(path, 200), "' has ", clip.frames, clip.frames == 1 ? " frame of " : " frames of ",
                clip.width, "x", clip.height);
}

void check_same_size(const Options& o, const media::Frames& a, const media::Frames& b) {
  if (a.frames == b.frames && a.height == b.height && a.width == b.width) return;
  throw UsageError(concat(size_text(o.a, a), ", ", size_text(o.b, b)),
                   "compare clips of the same number of frames, height and width");
}

Json ssim_of(const media::ClipMetrics& m, size_t frame) { return m.ssim.empty() ? Json() : Json(m.ssim[frame]); }

void print_as_json(const Options& o, const media::Frames& a, const media::ClipMetrics& m,
                   const std::optional<Distances>& d) {
  Json json{{"a", o.a},
            {"b", o.b},
            {"num_frames", a.frames},
            {"height", a.height},
            {"width", a.width},
            {"psnr", m.psnr_mean},
            {"psnr_clip", m.psnr_clip},
            {"ssim", m.ssim.empty() ? Json() : Json(m.ssim_mean)},
            {"mse", m.mse},
            {"definitions", {{"psnr", kPsnrFrames}, {"psnr_clip", kPsnrClip}, {"ssim", kSsim}}}};
  if (d) json["lpips"] = d->mean(), json["definitions"]["lpips"] = concat(d->trunk, ", ", kLpips);
  for (size_t f = 0; o.frames && f < m.psnr.size(); ++f) {
    Json& frame = json["frames"].emplace_back(Json{{"frame", f}, {"psnr", m.psnr[f]}, {"ssim", ssim_of(m, f)}});
    if (d) frame["lpips"] = d->lpips[f];
  }
  print_json(json);
}

void print_as_text(const Options& o, const media::Frames& a, const media::ClipMetrics& m,
                   const std::optional<Distances>& d) {
  std::cout << std::fixed;
  const auto decibel = [](double value) { std::cout << std::setprecision(4) << std::setw(9) << value << " dB"; };
  const auto share = [](double value) { std::cout << std::setprecision(6) << std::setw(9) << value; };
  for (size_t f = 0; o.frames && f < m.psnr.size(); ++f) {
    std::cout << "frame " << std::setw(4) << f << "  PSNR ";
    decibel(m.psnr[f]);
    if (!m.ssim.empty()) {
      std::cout << "  SSIM ";
      share(m.ssim[f]);
    }
    if (d) {
      std::cout << "  LPIPS ";
      share(d->lpips[f]);
    }
    std::cout << "\n";
  }
  std::cout << a.frames << (a.frames == 1 ? " frame of " : " frames of ") << a.width << "x" << a.height << "\nPSNR ";
  decibel(m.psnr_mean);
  std::cout << "  " << kPsnrFrames << "\nPSNR ";
  decibel(m.psnr_clip);
  std::cout << "  " << kPsnrClip << "\nSSIM ";
  if (m.ssim.empty()) {
    std::cout << "     none     its window of 11x11 is larger than the picture\n";
  } else {
    share(m.ssim_mean);
    std::cout << "     " << kSsim << "\n";
  }
  if (d) {
    std::cout << "LPIPS";
    share(d->mean());
    std::cout << "     " << d->trunk << ", " << kLpips << "\n";
  }
}

int eval(const Options& o, Context& context) {
  const auto stop_if_asked = [&context](int64_t = 0) {
    if (context.cancel.stop_requested()) throw CancelledError();
  };
  std::optional<media::Lpips> lpips;
  if (!o.lpips.empty()) lpips = media::Lpips::load(o.lpips);
  if (!o.prompts.caches.empty()) return eval_prompts(o.prompts, lpips ? &*lpips : nullptr, o.json, context);
  if (o.a.empty()) {
    throw UsageError("there is nothing to compare",
                     "name two clips, or a cache: kinora eval --cache pab; kinora eval --help shows both");
  }
  const media::Frames a = media::load_clip(o.a).frames;
  stop_if_asked();
  const media::Frames b = media::load_clip(o.b).frames;
  check_same_size(o, a, b);
  if (lpips) lpips->check_size(a.height, a.width);
  const media::ClipMetrics metrics = media::compare_clips(a, b, stop_if_asked);
  std::optional<Distances> distances;
  if (lpips) distances = Distances{lpips->trunk(), lpips->compare(a, b, stop_if_asked)};
  if (o.json)
    print_as_json(o, a, metrics, distances);
  else
    print_as_text(o, a, metrics, distances);
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("eval", "compare two clips, or caches over a list of prompts: PSNR, SSIM, LPIPS");
  c->footer(
      "Example: kinora eval plain.mp4 cached.mp4 --frames\n"
      "         kinora eval --cache pab --cache tea:threshold=0.2 --steps 30");
  auto* a = c->add_option("a", o->a, "an MP4, GIF or PNG, a folder of PNG, or a pattern such as out_%04d.png");
  auto* b = c->add_option("b", o->b, "the other, with as many frames of the same size");
  a->needs(b);
  auto* frames = c->add_flag("--frames", o->frames, "also a line for each frame");
  c->add_option("--lpips", o->lpips, "LPIPS too, with these weights: a .safetensors file or a folder (docs/cli.md)");
  c->add_flag("--json", o->json, "print JSON: one object, or a line for each row of the table");
  add_prompts_options(*c, o->prompts);
  a->excludes("--cache"), frames->excludes("--cache");
  c->callback([o, &action] { action = [o](Context& context) { return eval(*o, context); }; });
}

}  // namespace kinora::cli
