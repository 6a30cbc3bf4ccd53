// kinora generate: clips from prompts, pictures and other clips; and from the latents of a run that did not come to its end.
#include <algorithm>
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
#include "kinora/cli/generate_options.h"
#include "kinora/cli/launch.h"
#include "kinora/cli/ranks.h"
#include "kinora/cli/signals.h"
#include "kinora/media/ffmpeg.h"
#include "kinora/media/output.h"
#include "kinora/parallel/plan.h"
#include "kinora/video/job.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

std::string quoted(const std::string& word) {
  const bool is_plain = std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("/._-+=:,@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  return is_plain ? word : "'" + printable(word, 400) + "'";
}

/// The command that decodes the latents in `file`.
std::string decode_command(const GenerateOptions& o, const fs::path& file) {
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
std::string way_on(const GenerateOptions& o, video::JobFile& file) {
  if (!file.keep()) return {};
  const std::string path = printable(file.path().string(), 400);
  if (file.last().is_denoised) return concat("the latents are kept; go on with: ", decode_command(o, file.path()));
  return concat("the work so far is kept in ", path, ": give the same command with --resume");
}

struct Run {
  GenerateOptions& o;
  Context& context;
  video::Pipeline& pipeline;
  const video::Plan& plan;
  const fs::path& output;
  CacheReport& cache;
  RunRecord* record;  ///< null: nobody will compare
};

/// Makes and writes the clips. `jobs` is kept up to date as it goes.
void make_clips(const Run& run, video::Job job, video::JobFile& jobs) {
  const GenerateOptions& o = run.o;
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

/// Of this rank's process, of every rank. Collective.
std::vector<int64_t> peaks_of(comm::Communicator& ranks) {
  std::vector<int64_t> peaks(static_cast<size_t>(ranks.size()));
  const std::vector<int64_t> ones(peaks.size(), 1);
  const at::Tensor all = at::from_blob(peaks.data(), {ranks.size()}, at::kLong);
  const at::Tensor mine = at::full({1}, static_cast<int64_t>(peak_resident_bytes()), at::kLong);
  ranks.all_gather(all, mine, ones, "peaks")->wait();
  return peaks;
}

/// How the rows lay over ranks, what the first rank sent, and the peaks of all.
Json json_of(const video::Spread& spread, const comm::Traffic& traffic, const std::vector<int64_t>& peaks) {
  Json sent = Json::object();
  for (const auto& [key, row] : traffic.rows()) {
    if (row.bytes > 0) sent[key.first] = {{"calls", row.calls}, {"bytes", row.bytes}};
  }
  return {{"ranks", spread.ranks()},
          {"layout", parallel::name_of(spread.arrangement)},
          {"sent", std::move(sent)},
          {"peak_resident_bytes", peaks},
          {"waited_s", traffic.waited_s()}};
}

video::Pipeline load_pipeline(const GenerateOptions& o, Context& context) {
  ModelOptions model = o.model;
  model.device = context.ranks.own_device(model.device);
  video::PipelineOptions options = pipeline_options(model, &context.ledger);
  options.ranks = &context.ranks.join(options.device);
  options.ranks_of_host = context.ranks.of_host();
  return video::Pipeline::load(options);
}

video::Plan plan_of(const video::Pipeline& pipeline, const Asked& asked) {
  return asked.only_decodes ? pipeline.plan(asked.job, asked.request.memory) : pipeline.plan(asked.request);
}

/// The ranks behind the first do the same work, without a file and without a word: the first says it.
int take_part(GenerateOptions& o, Context& context) {
  set_log_sink([](LogLevel, std::string_view) {});
  use_threads(o.threads);
  Asked asked = read_options(o);
  video::Pipeline pipeline = load_pipeline(o, context);
  const video::Plan plan = plan_of(pipeline, asked);
  video::Hooks hooks;
  hooks.cancel = context.cancel;
  pipeline.generate(plan, hooks, std::move(asked.job));
  if (o.check) {
    asked.request.cache = "none", asked.request.seed = plan.seed;
    pipeline.generate(pipeline.plan(asked.request), hooks);
  }
  peaks_of(context.ranks.join());
  return 0;
}

void check_outputs(const GenerateOptions& o, const Asked& asked) {
  const size_t clips = asked.only_decodes ? asked.job.latents.size() : asked.request.prompts.size();
  for (size_t i = 0; i < clips; ++i) media::check_output(file_of(asked.output, static_cast<int64_t>(i), clips));
  if (media::output_kind(asked.output) == media::OutputKind::kMp4) media::require_h264();
  if (!o.save_latents.empty()) AtomicFile(o.save_latents);  // says now what cannot be written then
}

int generate(GenerateOptions& o, Context& context) {
  const auto begin = std::chrono::steady_clock::now();
  const video::JobCadence cadence = parse_cadence(o.checkpoint_every);
  use_threads(o.threads);
  Asked asked = read_options(o);
  const auto& [output, job_path, request, job, only_decodes] = asked;
  check_outputs(o, asked);
  video::Pipeline pipeline = load_pipeline(o, context);
  const video::Plan plan = plan_of(pipeline, asked);
  const auto [height, width] = pipeline.frame_size(plan);
  media::check_output_size(output, plan.total_frames(), height, width);

  if (o.check && plan.cache == "none")
    throw UsageError("--check compares with the run without a cache, and there is none", "add --cache auto");
  if (plan.expected) log_info(expectation_of(plan));
  if (!plan.spread.reason.empty()) log_info(plan.spread.reason);
  if (plan.branches_apart) log_info("the branches of guidance run one after the other, to take less memory");
  if (plan.pieces.budget > 0) log_info(text_of(plan.pieces));
  if (plan.weights.transformer) log_info(text_of(plan.weights, pipeline.sizes()));
  CacheReport cache(plan.cache, o.trace);
  RunRecord record;
  // Latents that are decoded from where a run left them go when the clip is whole, as if that run had ended well.
  const bool has_own_job = !only_decodes || fs::path(o.from_latents) == job_path;
  video::JobFile jobs(has_own_job ? job_path : fs::path(), cadence);
  if (!job.latents.empty()) jobs.begin_with(job);
  try {
    make_clips({o, context, pipeline, plan, output, cache, o.check ? &record : nullptr}, std::move(asked.job), jobs);
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
    asked.request.seed = plan.seed;
    checked = check_cache(pipeline, request, record, context.cancel);
  }
  comm::Communicator& ranks = context.ranks.join();
  const std::vector<int64_t> peaks = peaks_of(ranks);
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
                {"quantize", plan.quantize},
                {"lora", plan.adapters},
                {"seconds", seconds},
                {"in_pieces", plan.pieces.budget > 0},
                {"streams_weights", plan.weights.transformer.has_value()},
                {"peak_resident_bytes", peaks[0]},
                {"peak_counted_bytes", context.ledger.peak_total()}};
    if (ranks.size() > 1) row["parallel"] = json_of(plan.spread, pipeline.traffic(), peaks);
    if (plan.cache != "none") row["cache"] = cache.json();
    if (o.check) row["check"] = checked[i];
    print_json(row);
  }
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto o = std::make_shared<GenerateOptions>();
  CLI::App* c = app.add_subcommand("generate", "make a clip from a prompt, a picture or another clip");
  c->footer(
      "Example: kinora generate \"a blue square moves up on grass\" --seed 7 --output square.mp4\n"
      "         kinora generate \"a blue square moves up on grass\" --extend square.mp4 --output longer.mp4");
  add_generate_options(*c, *o);
  c->callback([o, &action] {
    action = [o](Context& context) {
      const auto check = [&] {
        const Asked asked = read_options(*o);
        check_outputs(*o, asked);
        plan_of(load_pipeline(*o, context), asked);
      };
      return on_ranks(o->request.request.ranks, context, check, [&](comm::Communicator& all) {
        return all.rank() == 0 ? generate(*o, context) : take_part(*o, context);
      });
    };
  });
}

}  // namespace kinora::cli
