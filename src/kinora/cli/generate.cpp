// kinora generate: clips from prompts, pictures and other clips; and from the latents of a run that did not come to its end.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/memory.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/cache_check.h"
#include "kinora/cli/cache_report.h"
#include "kinora/cli/clip_writer.h"
#include "kinora/cli/command.h"
#include "kinora/cli/generate_explained.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/prompts_file.h"
#include "kinora/cli/request_options.h"
#include "kinora/cli/signals.h"
#include "kinora/media/ffmpeg.h"
#include "kinora/media/output.h"
#include "kinora/video/job.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  RequestOptions request;
  std::string seed, output = "out.mp4", prompts_file;
  std::string image, extend, save_latents, from_latents, checkpoint_every, trace;
  std::vector<std::string> references, join;
  std::optional<double> aesthetic, motion;
  std::optional<std::string> camera;
  int64_t threads = 0, preview = 0;
  bool json = false, resume = false, keep_preview = false, check = false;
};

video::Request complete(Options& o) {
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

/// "30s": by time; "5": by steps.
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

std::string quoted(const std::string& word) {
  const bool is_plain = std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("/._-+=:,@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  return is_plain ? word : "'" + printable(word, 400) + "'";
}

/// The command that decodes the latents in `file`.
std::string decode_command(const Options& o, const fs::path& file) {
  std::string command = "kinora generate --from-latents " + quoted(file.string());
  const ModelOptions& m = o.model;
  for (const auto& [name, value] : {std::pair<const char*, const std::string&>{"--model", m.model},
                                    {"--transformer", m.transformer},
                                    {"--vae", m.vae},
                                    {"--text-encoder", m.text_encoder},
                                    {"--tokenizer", m.tokenizer}}) {
    if (!value.empty()) command += concat(" ", name, " ", quoted(value));
  }
  if (m.dtype != "auto") command += " --dtype " + m.dtype;
  return command + " --output " + quoted(o.output);
}

/// What is left of a run that did not come to its end, and how to go on.
std::string way_on(const Options& o, video::JobFile& file) {
  if (!file.keep()) return {};
  const std::string path = printable(file.path().string(), 400);
  if (file.last().is_denoised) return concat("the latents are kept; go on with: ", decode_command(o, file.path()));
  return concat("the work so far is kept in ", path, ": give the same command with --resume");
}

/// The job that this run begins with: that of --from-latents, of --resume where there is one, or none.
video::Job job_to_go_on_with(const Options& o, const fs::path& file) {
  if (!o.from_latents.empty()) return video::read_job(o.from_latents);
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  if (o.resume) return video::read_job(file);
  throw UsageError(concat("'", printable(file.string(), 200), "' is the job of a run that did not come to its end"),
                   "--resume goes on with it; remove the file, or choose another --output, to begin anew");
}

void refuse_what_latents_decide(const Options& o) {
  const RequestOptions& r = o.request;
  if (r.positional.empty() && r.request.prompts.empty() && o.prompts_file.empty() && o.seed.empty() &&
      r.frames.empty() && !r.request.height && !r.request.width && !r.request.steps && r.request.resolution.empty() &&
      !o.resume)
    return;
  throw UsageError("prompts, seed and sizes of --from-latents are those that the latents were made with",
                   "leave them out: kinora generate --from-latents FILE --output out.mp4");
}

struct Run {
  Options& o;
  Context& context;
  video::Pipeline& pipeline;
  const video::Plan& plan;
  const fs::path& output;
  CacheReport& cache;
  RunRecord* record;  ///< null: nobody will compare
};

/// Makes and writes the clips. `jobs` is kept up to date as it goes.
void make_clips(const Run& run, video::Job job, video::JobFile& jobs) {
  const Options& o = run.o;
  ClipWriter writer(run.pipeline, run.plan, run.output);
  PreviewFile preview(beside(run.output, ".preview.png"), o.keep_preview);
  StageLine line;
  std::optional<Error> not_saved;
  video::Hooks hooks;
  hooks.cancel = run.context.cancel;
  hooks.on_progress = [&](video::Stage stage, int64_t done, int64_t total) {
    throw_if_file_was_cut();
    line.show(stage, done, total);
  };
  hooks.on_frames = [&](int64_t index, media::Frames frames, int64_t) { writer.add(index, std::move(frames)); };
  if (o.from_latents.empty()) {
    hooks.on_job = [&](const video::Job& now) {
      jobs.note(now);
      if (o.save_latents.empty() || !now.is_denoised) return;
      try {
        video::write_job(o.save_latents, now);
      } catch (const Error& error) {
        not_saved = error;  // the clip can still be made
      }
    };
  }
  if (o.preview > 0 && run.plan.one_by_one) {
    log_warn("no preview: memory holds one part of the model at a time");
  } else if (o.preview > 0) {
    hooks.preview_every = o.preview;
    hooks.on_preview = [&](const std::vector<media::Frames>& clips, int64_t, int, int) { preview.show(clips); };
  }
  run.cache.attach(hooks);
  if (run.record) run.record->attach(hooks);
  run.pipeline.generate(run.plan, hooks, std::move(job));
  if (run.context.cancel.stop_requested()) throw CancelledError();
  writer.finish();
  line.end();
  run.cache.finish();
  jobs.remove();
  if (not_saved) throw *not_saved;
}

int generate(Options& o, Context& context) {
  const auto begin = std::chrono::steady_clock::now();
  const bool only_decodes = !o.from_latents.empty();
  if (only_decodes) refuse_what_latents_decide(o);
  video::Request request = only_decodes ? video::Request{} : complete(o);
  if (only_decodes) request.memory = parse_bytes(o.request.memory);
  const video::JobCadence cadence = parse_cadence(o.checkpoint_every);
  use_threads(o.threads);
  fs::path output = o.output;
  std::error_code ignored;
  if (fs::is_directory(output, ignored)) output /= "";
  const fs::path job_path = beside(output, ".job");
  video::Job job = job_to_go_on_with(o, job_path);
  const size_t clips = only_decodes ? job.latents.size() : request.prompts.size();
  for (size_t i = 0; i < clips; ++i) media::check_output(file_of(output, static_cast<int64_t>(i), clips));
  if (media::output_kind(output) == media::OutputKind::kMp4) media::require_h264();
  if (!o.save_latents.empty()) AtomicFile(o.save_latents);  // says now what cannot be written then
  // A seed that was drawn is the job's.
  if (o.resume && !request.seed && job.settings.contains("seed") && job.settings.at("seed").is_number_unsigned())
    request.seed = job.settings.at("seed").get<uint64_t>();

  request.collects_frames = media::output_kind(output) != media::OutputKind::kMp4;

  video::Pipeline pipeline = video::Pipeline::load(pipeline_options(o.model, &context.ledger));
  video::Plan plan = only_decodes ? pipeline.plan(job, request.memory) : pipeline.plan(request);
  const auto [height, width] = pipeline.frame_size(plan);
  media::check_output_size(output, plan.total_frames(), height, width);

  if (o.check && plan.cache == "none")
    throw UsageError("--check compares with the run without a cache, and there is none", "add --cache auto");
  if (plan.expected) log_info(expectation_of(plan));
  CacheReport cache(plan.cache, o.trace);
  RunRecord record;
  // Latents that are decoded from where a run left them go when the clip is whole, as if that run had ended well.
  const bool has_own_job = !only_decodes || fs::path(o.from_latents) == job_path;
  video::JobFile jobs(has_own_job ? job_path : fs::path(), cadence);
  if (!job.latents.empty()) jobs.begin_with(job);
  try {
    make_clips({o, context, pipeline, plan, output, cache, o.check ? &record : nullptr}, std::move(job), jobs);
  } catch (const Error& error) {
    const std::string next = way_on(o, jobs);
    if (next.empty()) throw;
    throw Error(error.what(), error.hint().empty() ? next : concat(error.hint(), "; ", next), error.exit_code());
  } catch (...) {
    if (const std::string next = way_on(o, jobs); !next.empty()) log_warn(next);
    throw;
  }

  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::vector<Json> checked;
  if (o.check) {
    request.seed = plan.seed;
    checked = check_cache(pipeline, request, record, context.cancel);
  }
  for (size_t i = 0; i < plan.prompts.size(); ++i) {
    const fs::path file = file_of(output, static_cast<int64_t>(i), plan.prompts.size());
    if (!o.json) {
      std::cout << file.string() << "\n";
      continue;
    }
    Json row = {{"file", file.string()},
                {"prompt", plan.prompts[i]},
                {"seed", plan.seed + i},
                {"model", pipeline.folder().name},
                {"num_frames", plan.total_frames()},
                {"height", height},
                {"width", width},
                {"fps", plan.fps},
                {"steps", plan.steps},
                {"guidance_scale", plan.guidance_scale},
                {"dtype", c10::toString(pipeline.dtype())},
                {"seconds", seconds},
                {"peak_resident_bytes", peak_resident_bytes()},
                {"peak_counted_bytes", context.ledger.peak_total()}};
    if (plan.cache != "none") row["cache"] = cache.json();
    if (o.check) row["check"] = checked[i];
    print_json(row);
  }
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  video::Request& request = o->request.request;
  CLI::App* c = app.add_subcommand("generate", "make a clip from a prompt, a picture or another clip");
  c->footer(
      "Example: kinora generate \"a blue square moves up on grass\" --seed 7 --output square.mp4\n"
      "         kinora generate \"a blue square moves up on grass\" --extend square.mp4 --output longer.mp4");
  add_request_options(*c, o->request);
  c->add_option("--prompts", o->prompts_file, "file with a prompt on each line; # begins a comment");
  c->add_option("--negative-prompt", request.negative_prompt, "what the clip should not show");
  add_model_options(*c, o->model);
  c->add_option("--seed", o->seed, "random seed; clip i takes seed + i (-1: drawn, as without it)");
  c->add_option("--fps", request.fps, "frames a second");
  c->add_option("--aes", o->aesthetic, "aesthetic score that Open-Sora appends (default 6.5)");
  c->add_option("--flow", o->motion, "motion score that Open-Sora appends");
  c->add_option("--camera-motion", o->camera, "camera motion that Open-Sora appends");
  c->add_option("-o,--output,--output-path", o->output,
                ".mp4, .gif, .png, a pattern such as out_%04d.png, or a folder/")
      ->capture_default_str();

  auto* image = c->add_option("--image", o->image, "picture that the clip begins with");
  auto* reference =
      c->add_option("--reference", o->references, "a picture or clip for --mask-strategy; they count from 0")
          ->expected(1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  c->add_option("--mask-strategy", request.mask_strategy,
                "loop,reference,reference start,target start,length,edit ratio; groups by ; (in latent frames)");
  auto* extend = c->add_option("--extend", o->extend, "clip to go on from");
  auto* join = c->add_option("--join", o->join, "two clips to lead from the first to the second")->expected(2);
  c->add_option("--condition-edit", request.condition_edit, "how far it may change them: 0 (not) to below 1");
  image->excludes(reference)->excludes(extend)->excludes(join);
  join->excludes(extend)->excludes("--seamless");

  c->add_option("--save-latents", o->save_latents, "file for the latents");
  c->add_option("--from-latents", o->from_latents, "decode a file of latents, or a .job file, again");
  c->add_flag("--resume", o->resume, "go on with the .job file beside the output");
  c->add_option("--checkpoint-every", o->checkpoint_every, "how often that file is written: 60s, or 5 for steps")
      ->default_str("60s");
  c->add_option("--preview", o->preview, "write OUTPUT.preview.png every so many steps")
      ->check(CLI::Range(1, 1'000'000));
  c->add_flag("--keep-preview", o->keep_preview, "keep it when the clip is whole");
  c->add_option("--trace", o->trace, "file for what the cache decided: a JSON line for each decision");
  auto* check =
      c->add_flag("--check", o->check, "make the same without the cache, too, and tell how near and fast it was");
  check->excludes("--resume")->excludes("--from-latents");
  add_threads(*c, o->threads);
  c->add_flag("--json", o->json, "print one JSON line for each clip");
  c->callback([o, &action] { action = [o](Context& context) { return generate(*o, context); }; });
}

}  // namespace kinora::cli
