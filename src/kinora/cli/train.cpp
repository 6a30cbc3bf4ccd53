// kinora train: the built-in model from its config.
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/cli/command.h"
#include "kinora/cli/judged.h"
#include "kinora/media/contact_sheet.h"
#include "kinora/media/png.h"
#include "kinora/train/shapes.h"
#include "kinora/video/request.h"

namespace kinora::cli {
namespace {

struct Options {
  std::string config, output, from, device = "cpu";
  int64_t threads = 0, samples = 12;
  double samples_every = 10;  // minutes
};

/// The model's defaults are for `generate`, which must not find out hours later that it cannot use them.
void check_defaults(const train::ShapesConfig& config, const std::string& what) {
  const auto defaults = video::Defaults::from_json(config.defaults, what + " defaults");
  try {
    video::Request request;
    request.prompts = {"a ball"};
    video::make_plan(request, defaults, config.vae.spatial.downscale());
  } catch (const UsageError& error) {
    throw DataError(concat(what, " defaults: ", error.what()), error.hint());
  }
}

/// A look at the model as it learns: samples.png, and what the judge says of them.
class Samples {
 public:
  Samples(const Options& options, const train::ShapesConfig& config, const train::ShapesOptions& training)
      : options_(options), config_(config), training_(training) {
    scenes_ = scenes_of(config.world, world::Split::held_out, kSeed);
    if (scenes_.empty()) scenes_ = scenes_of(config.world, world::Split::any, kSeed);
  }

  /// Of the model of `step`, unless the last ones are fresh. What goes wrong here is a warning: the training goes on.
  void show(int64_t step) {
    const auto now = std::chrono::steady_clock::now();
    const bool is_last = step == config_.denoiser.steps;
    if (options_.samples == 0 || training_.cancel.stop_requested()) return;
    if (!is_last && shown_at_ &&
        now - *shown_at_ < std::chrono::duration<double, std::ratio<60>>(options_.samples_every))
      return;
    try {
      draw(step);
    } catch (const CancelledError&) {
      return;
    } catch (const Error& error) {
      log_warn(concat("no samples of step ", step, ": ", error.what()));
    }
    shown_at_ = std::chrono::steady_clock::now();
  }

 private:
  static constexpr uint64_t kSeed = 1000;

  void draw(int64_t step) const {
    video::PipelineOptions from;
    from.paths.model = training_.folder / "model";
    from.dtype = config_.dtype;
    from.device = training_.device;
    video::Pipeline pipeline = video::Pipeline::load(from);
    Tally tally;
    std::vector<media::Frames> clips;
    std::vector<std::string> captions;
    const JudgeRequest wanted{
        .request = {}, .seed = kSeed, .count = static_cast<size_t>(options_.samples), .cancel = training_.cancel};
    judge_clips(pipeline, config_.world, scenes_, wanted, [&](JudgedClip clip) {
      tally.add(clip.score);
      clips.push_back(std::move(clip.frames));
      captions.push_back((clip.score.all() ? "ok: " : "no: ") + clip.prompt);
    });
    media::write_png(training_.folder / "samples.png", media::contact_sheet(clips, captions, {.clips_per_row = 2}));
    log_info(concat("samples of step ", step, ": of ", tally.clips, " right in colour ", tally.colour, ", shape ",
                    tally.shape, ", motion ", tally.motion, ", background ", tally.background));
  }

  const Options& options_;
  const train::ShapesConfig& config_;
  const train::ShapesOptions& training_;
  std::vector<world::Scene> scenes_;
  std::optional<std::chrono::steady_clock::time_point> shown_at_;
};

}  // namespace

void add_train(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("train", "train a model; what was cut short resumes");
  c->footer("Example: kinora train configs/shapes.json --output run");
  c->add_option("config", o->config, "the training's JSON file")->required();
  c->add_option("-o,--output", o->output, "folder of checkpoints; the model appears in its folder model")->required();
  c->add_option("--from", o->from, "model folder to go on from: its autoencoder is kept, the rest trains on");
  c->add_option("--samples", o->samples, "held-out prompts drawn into OUTPUT/samples.png and judged; 0: none")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000));
  c->add_option("--samples-every", o->samples_every, "minutes between them, at least")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  add_threads(*c, o->threads);
  add_device(*c, o->device);
  c->callback([o, &action] {
    action = [o](Context& context) {
      use_threads(o->threads);
      const auto config = train::ShapesConfig::from_json(read_json_file(o->config), o->config);
      check_defaults(config, o->config);
      train::ShapesOptions options;
      options.folder = o->output;
      options.from = o->from;
      options.device = parse_device(o->device);
      options.progress = &std::cerr;
      options.cancel = context.cancel;
      Samples samples(*o, config, options);
      options.on_model = [&](int64_t step) { samples.show(step); };
      train::train_shapes(config, options);
      std::cout << (options.folder / "model").string() << "\n";
      return 0;
    };
  });
}

}  // namespace kinora::cli
