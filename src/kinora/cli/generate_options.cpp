#include "kinora/cli/generate_options.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/clip_writer.h"
#include "kinora/cli/command.h"
#include "kinora/cli/generate_explained.h"
#include "kinora/cli/prompts_file.h"
#include "kinora/media/output.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

video::Request complete(GenerateOptions& o) {
  // Other scripts write whole sentences without a space.
  const auto is_word = [](const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c > ' ' && c < 0x80; });
  };
  const std::vector<std::string>& positional = o.request.positional;
  if (positional.size() > 1 && std::all_of(positional.begin(), positional.end(), is_word)) {
    std::string whole;
    for (const std::string& word : positional) whole += (whole.empty() ? "" : " ") + word;
    throw UsageError(concat("\"", printable(whole), "\" came as ", positional.size(), " prompts of one word each"),
                     "put quotes around a prompt, or ask for several clips with --prompt for each");
  }
  video::Request request = request_of(o.request);
  if (!o.prompts_file.empty()) {
    const std::vector<std::string> more = read_prompts(o.prompts_file);
    request.prompts.insert(request.prompts.end(), more.begin(), more.end());
  }
  if (request.prompts.empty()) {
    std::cout << kGenerateExplained;
    throw UsageError("there is no prompt",
                     "say what the clip shows: kinora generate \"a red ball moves to the right on grass\"");
  }
  for (const std::string& prompt : request.prompts) text::check_prompt(prompt);
  if (o.aesthetic || o.motion || o.camera) {
    text::PromptScores scores;
    if (o.aesthetic) scores.aesthetic = o.aesthetic;
    scores.motion = o.motion;
    scores.camera_motion = o.camera;
    request.scores = scores;
  }
  if (!o.seed.empty() && o.seed != "-1") request.seed = parse_seed(o.seed);
  for (const std::string& path : o.references) request.references.push_back(video::load_reference(path));
  if (!o.image.empty()) {
    // Of a clip its first picture.
    const video::ReferencePtr whole = video::load_reference(o.image);
    const media::Frames& frames = whole->frames;
    request.references = {std::make_shared<video::Reference>(
        video::Reference{whole->name, video::fill_frames(*whole, 0, 1, frames.height, frames.width)})};
  }
  if (!o.extend.empty()) request.before = video::load_reference(o.extend);
  if (!o.join.empty()) {
    request.before = video::load_reference(o.join.at(0));
    request.after = video::load_reference(o.join.at(1));
  }
  request.keeps_clips = false;
  return request;
}

/// The job that this run begins with: that of --from-latents, of --resume where there is one, or none.
video::Job job_to_go_on_with(const GenerateOptions& o, const fs::path& file) {
  if (!o.from_latents.empty()) return video::read_job(o.from_latents);
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  if (o.resume) return video::read_job(file);
  throw UsageError(concat("'", printable(file.string(), 200), "' is the job of a run that did not come to its end"),
                   "--resume goes on with it; remove the file, or choose another --output, to begin anew");
}

void refuse_what_latents_decide(const GenerateOptions& o) {
  const RequestOptions& r = o.request;
  if (r.positional.empty() && r.request.prompts.empty() && o.prompts_file.empty() && o.seed.empty() &&
      r.frames.empty() && !r.request.height && !r.request.width && !r.request.steps && r.request.resolution.empty() &&
      o.model.adapters.empty() && !o.resume)
    return;
  throw UsageError("prompts, seed, sizes and adapters of --from-latents are those that the latents were made with",
                   "leave them out: kinora generate --from-latents FILE --output out.mp4");
}

}  // namespace

void add_generate_options(CLI::App& command, GenerateOptions& o) {
  video::Request& request = o.request.request;
  add_request_options(command, o.request);
  command.add_option("--prompts", o.prompts_file, "file with a prompt on each line; # begins a comment");
  command.add_option("--negative-prompt", request.negative_prompt, "what the clip should not show");
  add_model_options(command, o.model);
  add_weight_options(command, o.model);
  command.add_option("--seed", o.seed, "random seed; clip i takes seed + i (-1: drawn, as without it)");
  command.add_option("--fps", request.fps, "frames a second");
  command.add_option("--aes", o.aesthetic, "aesthetic score that Open-Sora appends (default 6.5)");
  command.add_option("--flow", o.motion, "motion score that Open-Sora appends");
  command.add_option("--camera-motion", o.camera, "camera motion that Open-Sora appends");
  command
      .add_option("-o,--output,--output-path", o.output,
                  ".mp4, .gif, .png, a pattern such as out_%04d.png, or a folder/")
      ->capture_default_str();

  auto* image = command.add_option("--image", o.image, "picture that the clip begins with");
  auto* reference =
      command.add_option("--reference", o.references, "a picture or clip for --mask-strategy; they count from 0")
          ->expected(1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--mask-strategy", request.mask_strategy,
                     "loop,reference,reference start,target start,length,edit ratio; groups by ; (in latent frames)");
  auto* extend = command.add_option("--extend", o.extend, "clip to go on from");
  auto* join = command.add_option("--join", o.join, "two clips to lead from the first to the second")->expected(2);
  command.add_option("--condition-edit", request.condition_edit, "how far it may change them: 0 (not) to below 1");
  image->excludes(reference)->excludes(extend)->excludes(join);
  join->excludes(extend)->excludes("--seamless");

  command.add_option("--save-latents", o.save_latents, "file for the latents");
  command.add_option("--from-latents", o.from_latents, "decode a file of latents, or a .job file, again");
  command.add_flag("--resume", o.resume, "go on with the .job file beside the output");
  command.add_option("--checkpoint-every", o.checkpoint_every, "how often that file is written: 60s, or 5 for steps")
      ->default_str("60s");
  command.add_option("--preview", o.preview, "write OUTPUT.preview.png every so many steps")
      ->check(CLI::Range(1, 1'000'000));
  command.add_flag("--keep-preview", o.keep_preview, "keep it when the clip is whole");
  command.add_option("--trace", o.trace, "file for what the cache decided: a JSON line for each decision");
  auto* check =
      command.add_flag("--check", o.check, "make the same without the cache, too, and tell how near and fast it was");
  check->excludes("--resume")->excludes("--from-latents");
  add_threads(command, o.threads);
  command.add_flag("--json", o.json, "print one JSON line for each clip");
}

Asked read_options(GenerateOptions& o) {
  Asked asked{.only_decodes = !o.from_latents.empty()};
  if (asked.only_decodes) refuse_what_latents_decide(o);
  if (!asked.only_decodes) asked.request = complete(o);
  asked.request.memory = parse_bytes(o.request.memory);
  asked.output = o.output;
  std::error_code ignored;
  if (fs::is_directory(asked.output, ignored)) asked.output /= "";
  asked.job_path = beside(asked.output, ".job");
  asked.job = job_to_go_on_with(o, asked.job_path);
  // A seed that was drawn is the job's.
  const Json& settings = asked.job.settings;
  if (o.resume && !asked.request.seed && settings.contains("seed") && settings.at("seed").is_number_unsigned())
    asked.request.seed = settings.at("seed").get<uint64_t>();
  asked.request.collects_frames = media::output_kind(asked.output) != media::OutputKind::kMp4;
  return asked;
}

video::JobCadence parse_cadence(const std::string& text) {
  video::JobCadence cadence;
  if (text.empty()) return cadence;
  const bool is_time = text.back() == 's';
  const char* end = text.data() + text.size() - (is_time ? 1 : 0);
  int64_t value = 0;
  const auto [stop, failed] = std::from_chars(text.data(), end, value);
  if (failed != std::errc() || stop != end || value < 1 || value > 1'000'000) {
    throw UsageError(concat("\"", printable(text), "\" is no time between checkpoints"),
                     "write 60s for seconds or 5 for steps");
  }
  if (is_time)
    cadence.seconds = static_cast<double>(value);
  else
    cadence.steps = value;
  return cadence;
}

}  // namespace kinora::cli
