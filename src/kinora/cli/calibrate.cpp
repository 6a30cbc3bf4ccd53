// kinora calibrate: measures a model once for the caches that are set by its numbers, and how good and fast each cache is.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/progress.h"
#include "kinora/base/utf8.h"
#include "kinora/cache/calibration.h"
#include "kinora/cache/recorder.h"
#include "kinora/cli/command.h"
#include "kinora/cli/judged.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/prompts_file.h"
#include "kinora/cli/run_record.h"
#include "kinora/diffusion/scheduler.h"
#include "kinora/media/metrics.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  video::Request request;
  std::vector<int64_t> steps;
  std::string prompts;
  int64_t count = 8, threads = 0;
};

/// The user's, or captions of the world that the model was trained on.
std::vector<std::string> prompts_of(const Options& o, const fs::path& model) {
  const auto count = static_cast<size_t>(o.count);
  if (o.prompts.empty()) return world_prompts(model, world::Split::train, count, 0);
  std::vector<std::string> prompts = read_prompts(o.prompts);
  prompts.resize(std::min(prompts.size(), count));
  return prompts;
}

/// Of each method a careful, a middling and a bold setting; those of PAB are the paper's (PAB246, 357, 579).
constexpr const char* kCandidates[] = {
    "pab",
    "pab:spatial=3,temporal=5,cross=7",
    "pab:spatial=5,temporal=7,cross=9",
    "pab:full=3",
    "pab:full=5",
    "first-block:threshold=0.05",
    "first-block:threshold=0.1",
    "first-block:threshold=0.2",
    "dual-block:first=1,warmup=4,threshold=0.05",
    "dual-block:first=1,warmup=4",
    "dual-block:first=1,warmup=4,threshold=0.2",
    "tea:threshold=0.1",
    "tea:threshold=0.2",
    "tea:threshold=0.3",
    "easy:threshold=0.05",
    "easy:threshold=0.1",
    "easy:threshold=0.2",
    "mag:threshold=0.06",
    "mag:threshold=0.12,skips=4",
    "mag:threshold=0.24,skips=6",
    "taylor:interval=2",
    "taylor:interval=3",
    "taylor:interval=5",
    "faster",
    "faster:temporal=2",
    "faster:spatial=3,temporal=3",
    "faster:full=3",
    "ada:speed=slow",
    "ada",
    "ada:changes=0.03+0.05+0.07+0.09+0.11,rates=12+10+8+6+4+3",
};

/// What is measured: the planned cache at several lengths, and the others as far as the model can take them.
std::vector<std::string> candidates(const video::Pipeline& pipeline, video::Request request, int64_t calls) {
  std::vector<std::string> all;
  int64_t last = calls;
  for (const double share : {0.85, 0.7, 0.6, 0.5, 0.4, 0.33, 0.27, 0.2, 0.16, 0.12}) {
    const auto computed = static_cast<int64_t>(std::lround(share * static_cast<double>(calls)));
    if (computed >= 2 && computed < last) all.push_back(concat("planned:calls=", last = computed));
  }
  for (const char* other : kCandidates) {
    request.cache = other;
    try {
      pipeline.plan(request);
      all.push_back(other);
    } catch (const UsageError&) {  // not for this model, or not for so many steps
    }
  }
  return all;
}

/// One run of the request's prompt; `watch` stands in for the cache where it is given.
RunRecord run_with(video::Pipeline& pipeline, video::Request request, const std::string& cache, Context& context,
                   cache::Method* watch = nullptr) {
  RunRecord record;
  video::Hooks hooks;
  hooks.cancel = context.cancel;
  hooks.cache = watch;
  record.attach(hooks);
  request.cache = cache;
  pipeline.generate(request, hooks);
  return record;
}

struct Sums {
  double seconds = 0, psnr = 0, ssim = 0;
};

cache::CalibratedRun calibrate_steps(const Options& o, video::Pipeline& pipeline,
                                     const std::vector<std::string>& prompts, Context& context) {
  const auto request_of_clip = [&](size_t i) {
    video::Request request = o.request;
    request.prompts = {prompts[i]};
    request.seed = i;
    return request;
  };
  const video::Plan plan = pipeline.plan(request_of_clip(0));
  const auto schedule = plan.scheduler->timesteps();
  cache::CalibratedRun run{.steps = plan.steps,
                           .clips = static_cast<int64_t>(prompts.size()),
                           .schedule = {schedule.begin(), schedule.end()}};
  const auto progress_of = [&](const char* what, size_t clips) {
    return ProgressOptions{.label = concat(what, " ", plan.steps, " steps"),
                           .total = static_cast<int64_t>(clips),
                           .unit = "clip",
                           .is_terminal = is_terminal(2)};
  };
  int64_t done = 0;
  Progress watching(std::cerr, progress_of("watch", prompts.size()));
  cache::Recorder recorder;
  for (size_t i = 0; i < prompts.size(); ++i) {
    run_with(pipeline, request_of_clip(i), "none", context, &recorder);
    watching.update(++done);
  }
  watching.finish();
  run.rows = recorder.rows();
  run.gram = recorder.gram();
  run.ratios = recorder.ratios();
  run.coefficients = recorder.coefficients();
  pipeline.put_calibration(run);  // the planned cache goes by it

  const auto all = candidates(pipeline, request_of_clip(0), static_cast<int64_t>(schedule.size()));
  std::vector<Sums> sums(all.size());
  Progress progress(std::cerr, progress_of("try", prompts.size() * (all.size() + 1)));
  done = 0;
  double plain_seconds = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const RunRecord plain = run_with(pipeline, request_of_clip(i), "none", context);
    plain_seconds += plain.denoise_s();
    progress.update(++done);
    for (size_t c = 0; c < all.size(); ++c) {
      const RunRecord trial = run_with(pipeline, request_of_clip(i), all[c], context);
      const media::ClipMetrics metrics = media::compare_clips(plain.clips().at(0), trial.clips().at(0));
      sums[c].seconds += trial.denoise_s();
      sums[c].psnr += metrics.psnr_mean, sums[c].ssim += metrics.ssim_mean;
      progress.update(++done);
    }
  }
  progress.finish();
  const auto clips = static_cast<double>(prompts.size());
  for (size_t c = 0; c < all.size(); ++c)
    run.measured.push_back({all[c], plain_seconds / sums[c].seconds, sums[c].psnr / clips, sums[c].ssim / clips});
  return run;
}

int calibrate(Options& o, Context& context) {
  use_threads(o.threads);
  if (o.count < 1 || o.count > 1000) throw UsageError(concat("--count cannot be ", o.count), "choose 1 to 1000");
  const video::PipelineOptions options = pipeline_options(o.model, &context.ledger);
  const std::vector<std::string> prompts = prompts_of(o, options.paths.model);
  video::Pipeline pipeline = video::Pipeline::load(options);
  const fs::path file = pipeline.folder().transformer / cache::kCalibrationFile;
  AtomicFile{file};  // says now what cannot be written in the end
  std::vector<std::optional<int64_t>> steps(o.steps.begin(), o.steps.end());
  if (steps.empty()) steps.push_back(std::nullopt);  // the model's own
  for (const auto& n : steps) {
    o.request.steps = n;
    const cache::CalibratedRun run = calibrate_steps(o, pipeline, prompts, context);
    pipeline.put_calibration(run);
    write_file(file, pipeline.calibration()->to_json().dump(1));
    for (const cache::Measured& m : run.measured)
      print_json({{"steps", run.steps}, {"cache", m.cache}, {"speed", m.speed}, {"psnr", m.psnr}, {"ssim", m.ssim}});
  }
  log_info(concat("the calibration is in ", printable(file.string(), 400)));
  return 0;
}

}  // namespace

void add_calibrate(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("calibrate", "measure a model for the caches that are set by its numbers");
  c->footer(
      "Example: kinora calibrate --steps 30,50\n"
      "         kinora calibrate -m FOLDER --prompts prompts.txt");
  add_model_options(*c, o->model);
  c->add_option("--steps", o->steps, "denoising steps, each measured by itself (default: the model's)")->delimiter(',');
  c->add_option("--guidance-scale", o->request.guidance_scale, "how strongly the prompt is followed");
  c->add_option("--height", o->request.height, "pixels");
  c->add_option("--width", o->request.width, "pixels");
  c->add_option("--frames", o->request.num_frames, "number of frames");
  c->add_option("--prompts", o->prompts, "file with a prompt on each line (default: captions of the model's world)");
  c->add_option("--count", o->count, "prompts at most")->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return calibrate(*o, context); }; });
}

}  // namespace kinora::cli
