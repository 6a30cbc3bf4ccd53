// kinora data shapes: clips and captions of the procedural world.
#include <iostream>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/cli/command.h"
#include "kinora/cli/world_options.h"
#include "kinora/media/contact_sheet.h"
#include "kinora/media/ffmpeg.h"
#include "kinora/media/output.h"
#include "kinora/media/png.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string output, split = "any", format = "gif", config;
  int64_t count = 10;
  std::string seed_text = "0";
  uint64_t seed = 0;
};

Json row_of(const std::string& file, const world::Sample& sample) {
  Json objects = Json::array();
  for (const world::Object& object : sample.scene.objects) {
    objects.push_back({{"shape", object.shape}, {"colour", object.colour}, {"motion", object.motion}});
    if (!object.size.empty()) objects.back()["size"] = object.size;
  }
  return {{"file", file}, {"caption", sample.caption}, {"objects", objects}, {"background", sample.scene.background}};
}

int shapes(Options& o, Context& context) {
  o.seed = parse_seed(o.seed_text);
  if (o.count < 1 || o.count > 1'000'000)
    throw UsageError(concat("--count cannot be ", o.count), "choose 1 to 1000000");
  if (o.format != "gif" && o.format != "mp4" && o.format != "png")
    throw UsageError(concat("the format \"", o.format, "\" is not known"), "choose gif, mp4 or png");
  if (o.format == "mp4") media::require_h264();
  const world::WorldConfig config = o.config.empty() ? world::WorldConfig{} : read_world(o.config);
  const world::Split split = parse_split(o.split);
  const fs::path folder = o.output;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed)
    throw ResourceError(concat("cannot make the folder '", folder.string(), "': ", failed.message()),
                        "choose a folder that can be written");
  std::string rows;
  for (int64_t i = 0; i < o.count; ++i) {
    if (context.cancel.stop_requested()) throw CancelledError();
    const world::Sample sample = world::sample(config, o.seed, static_cast<uint64_t>(i), split);
    std::string number = std::to_string(i);
    const std::string file = std::string(number.size() < 6 ? 6 - number.size() : 0, '0') + number + "." + o.format;
    media::Metadata metadata;
    metadata.prompt = sample.caption;
    metadata.seed = o.seed;
    if (o.format == "png") {
      media::write_png(folder / file, media::contact_sheet({sample.clip}, {sample.caption}));
    } else {
      media::save_clip(folder / file, sample.clip, metadata);
    }
    rows += row_of(file, sample).dump(-1, ' ', true) + "\n";
  }
  write_file(folder / "captions.jsonl", rows);
  std::cout << (folder / "captions.jsonl").string() << "\n";
  return 0;
}

}  // namespace

void add_data(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("data", "development: make training data");
  c->require_subcommand(1);
  CLI::App* s = c->add_subcommand("shapes", "clips and captions of the built-in model's procedural world");
  s->footer("Example: kinora data shapes --out clips --count 20 --split held-out");
  s->add_option("-o,--out,--output", o->output, "folder of the clips and captions.jsonl")->required();
  s->add_option("--count", o->count, "number of clips")->capture_default_str();
  s->add_option("--seed", o->seed_text, "of the whole set")->capture_default_str();
  s->add_option("--split", o->split, "train, held-out or any")->capture_default_str();
  s->add_option("--format", o->format, "gif, mp4, or png (frames side by side)")->capture_default_str();
  s->add_option("--config", o->config, "JSON file of the world, or of a training with a member world");
  s->callback([o, &action] { action = [o](Context& context) { return shapes(*o, context); }; });
}

}  // namespace kinora::cli
