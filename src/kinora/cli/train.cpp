// kinora train: the built-in model from its config.
#include <iostream>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/cli/command.h"
#include "kinora/train/shapes.h"
#include "kinora/video/request.h"

namespace kinora::cli {
namespace {

struct Options {
  std::string config, output, from, device = "cpu";
  int64_t threads = 0;
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

}  // namespace

void add_train(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("train", "train a model; what was cut short resumes");
  c->footer("Example: kinora train configs/shapes.json --output run");
  c->add_option("config", o->config, "the training's JSON file")->required();
  c->add_option("-o,--output", o->output, "folder of checkpoints; the model appears in its folder model")->required();
  c->add_option("--from", o->from, "model folder to go on from: its autoencoder is kept, the rest trains on");
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
      train::train_shapes(config, options);
      std::cout << (options.folder / "model").string() << "\n";
      return 0;
    };
  });
}

}  // namespace kinora::cli
