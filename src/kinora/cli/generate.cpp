// kinora generate: a clip for each prompt.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/progress.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"
#include "kinora/cli/generate_explained.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/signals.h"
#include "kinora/media/ffmpeg.h"
#include "kinora/media/output.h"
#include "kinora/video/tables.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  video::Request request;
  std::vector<std::string> positional;
  std::string frames, memory, seed, output = "out.mp4";
  std::optional<double> aesthetic, motion;
  std::optional<std::string> camera;
  int64_t threads = 0;
  bool json = false;
};

/// "out.mp4" for one clip; "out-0.mp4", "out-1.mp4", ... for several.
fs::path file_of(const fs::path& output, int64_t index, size_t clips) {
  if (clips == 1) return output;
  if (!output.has_filename()) return fs::path(output.parent_path().string() + "-" + std::to_string(index)) / "";
  return output.parent_path() / concat(output.stem().string(), "-", index, output.extension().string());
}

/// Writes clips as their frames come: an MP4 while the next frames are decoded, other kinds when the clip is whole.
class Writer {
 public:
  Writer(const video::Pipeline& pipeline, const video::Plan& plan, fs::path output)
      : pipeline_(pipeline), plan_(plan), output_(std::move(output)) {}

  void add(int64_t index, media::Frames frames) {
    if (index != index_) {
      finish();
      index_ = index;
      path_ = file_of(output_, index, plan_.prompts.size());
      if (media::output_kind(path_) == media::OutputKind::kMp4) {
        media::VideoOptions options;
        options.fps = plan_.fps;
        writer_ = std::make_unique<media::VideoWriter>(path_, frames.height, frames.width, options,
                                                       pipeline_.metadata(plan_, index));
      }
    }
    if (writer_) {
      writer_->write(frames);
    } else if (frames_.frames == 0) {
      frames_ = std::move(frames);
      frames_.rgb.reserve(static_cast<size_t>(plan_.num_frames * frames_.frame_bytes()));
    } else {
      frames_.rgb.insert(frames_.rgb.end(), frames.rgb.begin(), frames.rgb.end());
      frames_.frames += frames.frames;
    }
  }

  void finish() {
    if (index_ < 0) return;
    throw_if_file_was_cut();
    if (writer_)
      writer_->commit();
    else
      media::save_clip(path_, frames_, pipeline_.metadata(plan_, index_));
    writer_.reset();
    frames_ = {};
    index_ = -1;
  }

 private:
  const video::Pipeline& pipeline_;
  const video::Plan& plan_;
  fs::path output_, path_;
  int64_t index_ = -1;
  std::unique_ptr<media::VideoWriter> writer_;
  media::Frames frames_;
};

/// The one progress line: each stage is shown as it goes.
class Line {
 public:
  void show(video::Stage stage, int64_t done, int64_t total) {
    if (!progress_ || stage != stage_) {
      progress_.reset();
      stage_ = stage;
      ProgressOptions options;
      options.label = video::stage_name(stage);
      options.total = total;
      static constexpr const char* kUnits[] = {"part", "text", "step", "frame"};
      options.unit = kUnits[static_cast<int>(stage)];
      options.is_terminal = is_terminal(2);
      options.memory_bytes = resident_bytes;
      progress_ = std::make_unique<Progress>(std::cerr, std::move(options));
    }
    progress_->update(done);
  }
  void end() { progress_.reset(); }

 private:
  std::unique_ptr<Progress> progress_;
  video::Stage stage_ = video::Stage::load;
};

video::Request complete(Options& o) {
  // Other scripts write whole sentences without a space.
  const auto is_word = [](const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > ' ' && c < 0x80; });
  };
  if (o.positional.size() > 1 && std::all_of(o.positional.begin(), o.positional.end(), is_word)) {
    std::string whole;
    for (const std::string& word : o.positional) whole += (whole.empty() ? "" : " ") + word;
    throw UsageError(concat("\"", printable(whole), "\" came as ", o.positional.size(), " prompts of one word each"),
                     "put quotes around a prompt, or ask for several clips with --prompt for each");
  }
  video::Request request = o.request;
  request.prompts.insert(request.prompts.begin(), o.positional.begin(), o.positional.end());
  if (request.prompts.empty()) {
    std::cout << kGenerateExplained;
    throw UsageError("there is no prompt",
                     "say what the clip shows: kinora generate \"a red ball moves to the right on grass\"");
  }
  for (const std::string& prompt : request.prompts) text::check_prompt(prompt);
  if (!o.frames.empty()) request.num_frames = video::num_frames_of(o.frames);
  if (o.aesthetic || o.motion || o.camera) {
    text::PromptScores scores;
    if (o.aesthetic) scores.aesthetic = o.aesthetic;
    scores.motion = o.motion;
    scores.camera_motion = o.camera;
    request.scores = scores;
  }
  if (!o.seed.empty()) request.seed = parse_seed(o.seed);
  request.memory = parse_bytes(o.memory);
  request.keeps_clips = false;
  return request;
}

int generate(Options& o, Context& context) {
  const auto begin = std::chrono::steady_clock::now();
  const video::Request request = complete(o);
  use_threads(o.threads);
  fs::path output = o.output;
  std::error_code ignored;
  if (fs::is_directory(output, ignored)) output /= "";
  for (size_t i = 0; i < request.prompts.size(); ++i)
    media::check_output(file_of(output, static_cast<int64_t>(i), request.prompts.size()));
  if (media::output_kind(output) == media::OutputKind::kMp4) media::require_h264();

  video::Pipeline pipeline = video::Pipeline::load(pipeline_options(o.model, &context.ledger));
  const video::Plan plan = pipeline.plan(request);
  const auto [height, width] = pipeline.frame_size(plan);
  media::check_output_size(output, plan.num_frames, height, width);

  Writer writer(pipeline, plan, output);
  Line line;
  video::Hooks hooks;
  hooks.cancel = context.cancel;
  hooks.on_progress = [&](video::Stage stage, int64_t done, int64_t total) {
    throw_if_file_was_cut();
    line.show(stage, done, total);
  };
  hooks.on_frames = [&](int64_t index, media::Frames frames, int64_t) { writer.add(index, std::move(frames)); };
  pipeline.generate(plan, hooks);
  if (context.cancel.stop_requested()) throw CancelledError();
  writer.finish();
  line.end();

  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (size_t i = 0; i < plan.prompts.size(); ++i) {
    const fs::path file = file_of(output, static_cast<int64_t>(i), plan.prompts.size());
    if (!o.json) {
      std::cout << file.string() << "\n";
      continue;
    }
    print_json({{"file", file.string()},
                {"prompt", plan.prompts[i]},
                {"seed", plan.seed + i},
                {"model", pipeline.folder().name},
                {"num_frames", plan.num_frames},
                {"height", height},
                {"width", width},
                {"fps", plan.fps},
                {"steps", plan.steps},
                {"guidance_scale", plan.guidance_scale},
                {"dtype", c10::toString(pipeline.dtype())},
                {"seconds", seconds},
                {"peak_resident_bytes", peak_resident_bytes()},
                {"peak_counted_bytes", context.ledger.peak_total()}});
  }
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("generate", "make a clip from a prompt");
  c->footer("Example: kinora generate \"a blue square moves up on grass\" --seed 7 --output square.mp4");
  c->add_option("prompts", o->positional, "what the clip shows; several prompts give several clips");
  c->add_option("--prompt", o->request.prompts, "the same as an option")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  c->add_option("--negative-prompt", o->request.negative_prompt, "what the clip should not show");
  add_model_options(*c, o->model);
  c->add_option("--height", o->request.height, "pixels");
  c->add_option("--width", o->request.width, "pixels");
  c->add_option("--resolution", o->request.resolution,
                "144p, 240p, 360p, 480p, 720p, 1080p, 2k, 4k in place of height and width");
  c->add_option("--aspect-ratio", o->request.aspect_ratio, "height:width with --resolution; 9:16 is landscape");
  c->add_option("--frames,--num-frames", o->frames,
                "number of frames, or a length such as 2s, 4s, 16s; 1 makes a picture");
  c->add_option("--steps,--num-inference-steps", o->request.steps, "denoising steps");
  c->add_option("--guidance-scale", o->request.guidance_scale, "how strongly the prompt is followed; 1: no guidance");
  c->add_option("--seed", o->seed, "random seed; clip i takes seed + i (default: drawn)");
  c->add_option("--fps", o->request.fps, "frames a second");
  c->add_option("--aes", o->aesthetic, "aesthetic score that Open-Sora appends (default 6.5)");
  c->add_option("--flow", o->motion, "motion score that Open-Sora appends");
  c->add_option("--camera-motion", o->camera, "camera motion that Open-Sora appends");
  c->add_option("--batch", o->request.batch, "clips at a time (default: what fits, at most 8)");
  c->add_option("--memory", o->memory, "most memory of the process, such as 8GB (default: what is free)");
  c->add_option("-o,--output,--output-path", o->output,
                ".mp4, .gif, .png, a pattern such as out_%04d.png, or a folder/")
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->add_flag("--json", o->json, "print one JSON line for each clip");
  c->callback([o, &action] { action = [o](Context& context) { return generate(*o, context); }; });
}

}  // namespace kinora::cli
