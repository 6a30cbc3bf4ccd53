// kinora bench builtin: how often the built-in model shows what it was asked for. The judge is held to the truth first.
#include <algorithm>
#include <iostream>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/progress.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/bench.h"
#include "kinora/cli/judged.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/world_options.h"
#include "kinora/media/contact_sheet.h"
#include "kinora/media/output.h"
#include "kinora/media/png.h"

namespace kinora::cli {
namespace {

struct Options {
  ModelOptions model;
  video::Request request;
  std::string split = "held-out", sheet;
  int64_t count = 0, threads = 0;
  std::string seed_text = "1000";
  uint64_t seed = 0;
  bool each = false, judge_only = false;
};

const std::string& other(const std::vector<std::string>& names, const std::string& name, size_t step) {
  const auto at = static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  return names[(at + 1 + step % (names.size() - 1)) % names.size()];
}

/// Rendered truth, and the same clips under captions of which one attribute is wrong: none of those may pass.
Json check_judge(const world::WorldConfig& config, const std::vector<world::Scene>& scenes) {
  constexpr size_t kMost = 500;
  Tally truth;
  int64_t swapped = 0, accepted = 0;
  const size_t count = std::min(kMost, scenes.size());
  for (size_t i = 0; i < count; ++i) {
    const world::Scene& scene = evenly(scenes, i, count);
    const auto verdict = world::judge(config, world::render(config, scene));
    truth.add(world::compare(verdict, scene));
    const auto try_wrong = [&](auto attribute, const std::vector<std::string>& names) {
      if (names.size() < 2) return;
      world::Scene wrong = scene;
      attribute(wrong) = other(names, attribute(wrong), i);
      ++swapped;
      accepted += world::compare(verdict, wrong).all();
    };
    const auto of_object = [&](std::string world::Object::*attribute) {
      return [=](world::Scene& s) -> std::string& { return s.objects[i % s.objects.size()].*attribute; };
    };
    try_wrong(of_object(&world::Object::shape), config.shapes);
    try_wrong(of_object(&world::Object::colour), config.colours);
    try_wrong(of_object(&world::Object::motion), config.motions);
    try_wrong([](world::Scene& s) -> std::string& { return s.background; }, config.backgrounds);
  }
  Json line = truth.to_json();
  line["bench"] = "judge";
  line["wrong_captions"] = swapped;
  line["wrong_accepted"] = accepted;
  return line;
}

Json reading_of(const world::Verdict& verdict) {
  Json objects = Json::array();
  for (const world::Reading& r : verdict.objects) {
    objects.push_back({{"shape", r.shape},
                       {"colour", r.colour},
                       {"motion", r.motion},
                       {"size", r.size},
                       {"presence", r.presence},
                       {"iou", r.iou},
                       {"sharpness", r.sharpness},
                       {"worst_step_px", r.worst_step_px}});
  }
  return objects;
}

int builtin(Options& o, Context& context) {
  o.seed = parse_seed(o.seed_text);
  use_threads(o.threads);
  if (o.count < 0 || o.count > 100000)
    throw UsageError(concat("--count cannot be ", o.count), "choose 1 to 100000, or 0 for every combination");
  if (!o.sheet.empty()) {
    if (media::output_kind(o.sheet) != media::OutputKind::kPng)
      throw UsageError(concat("--sheet ", printable(o.sheet), " is no picture"), "name it .png");
    media::check_output(o.sheet);
  }
  video::PipelineOptions options = pipeline_options(o.model, &context.ledger);
  if (options.paths.model.empty()) {
    throw UsageError("the judge needs the world that the model was trained on: world.json in the model's folder",
                     "add --model FOLDER");
  }
  const world::WorldConfig config = read_world(options.paths.model / "world.json");
  const world::Split split = parse_split(o.split);
  const std::vector<world::Scene> all_scenes = scenes_of(config, split, o.seed);
  if (all_scenes.empty()) throw UsageError(concat("the world has no ", o.split, " combinations"));
  print_json(check_judge(config, all_scenes));
  if (o.judge_only) return 0;

  const size_t count = o.count > 0 ? static_cast<size_t>(o.count) : all_scenes.size();
  video::Pipeline pipeline = video::Pipeline::load(options);
  Tally tally, pairs;
  std::vector<media::Frames> shown;
  std::vector<std::string> captions;
  double iou = 0;
  constexpr size_t kShown = 24;
  ProgressOptions line{
      .label = "judge", .total = static_cast<int64_t>(count), .unit = "clip", .is_terminal = is_terminal(2)};
  Progress progress(std::cerr, line);
  const JudgeRequest wanted{.request = o.request, .seed = o.seed, .count = count, .cancel = context.cancel};
  const double seconds = seconds_of([&] {
    judge_clips(pipeline, config, all_scenes, wanted, [&](JudgedClip clip) {
      tally.add(clip.score);
      if (clip.scene.objects.size() > 1) pairs.add(clip.score);
      for (const world::Reading& r : clip.verdict.objects)
        iou += r.iou / static_cast<double>(clip.verdict.objects.size());
      if (o.each) {
        print_json({{"bench", "clip"},
                    {"prompt", clip.prompt},
                    {"seed", clip.seed},
                    {"background", clip.verdict.background},
                    {"objects", reading_of(clip.verdict)},
                    {"single", clip.verdict.single},
                    {"right", clip.score.all()}});
      }
      if (!o.sheet.empty() && shown.size() < kShown) {
        shown.push_back(std::move(clip.frames));
        captions.push_back((clip.score.all() ? "ok: " : "no: ") + clip.prompt);
      }
      progress.update(tally.clips);
    });
  });
  progress.finish();
  const video::Plan plan = [&] {
    video::Request r = o.request;
    r.prompts = {"a"};
    return pipeline.plan(r);
  }();
  Json summary = tally.to_json();
  summary["bench"] = "builtin";
  if (pairs.clips > 0) summary["pairs"] = pairs.to_json();
  summary["model"] = pipeline.folder().name;
  summary["split"] = o.split;
  summary["seed"] = o.seed;
  summary["steps"] = plan.steps;
  summary["guidance_scale"] = plan.guidance_scale;
  summary["dtype"] = c10::toString(pipeline.dtype());
  summary["mean_iou"] = iou / static_cast<double>(count);
  summary["seconds_per_clip"] = seconds / static_cast<double>(count);
  print_json(summary);
  if (!o.sheet.empty()) media::write_png(o.sheet, media::contact_sheet(shown, captions, {.clips_per_row = 2}));
  return 0;
}

}  // namespace

void add_bench_builtin(CLI::App& bench, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = bench.add_subcommand("builtin", "the built-in model, judged on every prompt of its world");
  c->footer("Example: kinora bench builtin --split held-out --sheet held-out.png");
  add_model_options(*c, o->model);
  c->add_option("--split", o->split, "held-out, train or any")->capture_default_str();
  c->add_option("--count", o->count, "clips; 0: every combination once, and pairs")->capture_default_str();
  c->add_option("--seed", o->seed_text, "of noise and phrasing")->capture_default_str();
  c->add_option("--steps,--num-inference-steps", o->request.steps, "denoising steps");
  c->add_option("--guidance-scale", o->request.guidance_scale, "how strongly the prompt is followed");
  c->add_option("--sheet", o->sheet, "PNG file that shows the first 24 clips");
  c->add_flag("--each", o->each, "a line for each clip");
  c->add_flag("--judge-only", o->judge_only, "hold the judge to rendered truth and stop");
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return builtin(*o, context); }; });
}

}  // namespace kinora::cli
