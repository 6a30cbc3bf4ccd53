#include "kinora/cli/eval_prompts.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <limits>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/base/progress.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/cache_report.h"
#include "kinora/cli/judged.h"
#include "kinora/cli/prompts_file.h"
#include "kinora/cli/run_record.h"
#include "kinora/cli/signals.h"
#include "kinora/media/metrics.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kWorldPrompts = 20;

/// Of the file, or held-out captions of the model's own world.
std::vector<std::string> prompts_of(const PromptsOptions& o, const fs::path& model, uint64_t seed) {
  if (!o.prompts_file.empty()) {
    std::vector<std::string> prompts = read_prompts(o.prompts_file);
    if (o.count > 0) prompts.resize(std::min(prompts.size(), static_cast<size_t>(o.count)));
    return prompts;
  }
  return world_prompts(model, world::Split::held_out, o.count > 0 ? static_cast<size_t>(o.count) : kWorldPrompts, seed);
}

struct Made {
  double seconds = 0;  ///< of the denoising
  media::Frames frames;
  CacheReport::Hits hits;
};

/// Without `wants_frames` the run ends where its denoising does.
Made make(video::Pipeline& pipeline, const video::Plan& plan, bool wants_frames, const std::stop_token& cancel) {
  Made made;
  std::stop_source stop;
  const std::stop_callback both(cancel, [&stop] { stop.request_stop(); });
  RunRecord record;
  video::Hooks hooks;
  hooks.cancel = stop.get_token();
  hooks.on_progress = [&](video::Stage, int64_t, int64_t) {
    throw_if_file_was_cut();
    if (record.denoise_s() > 0 && !wants_frames) stop.request_stop();
  };
  record.attach(hooks);
  try {
    pipeline.generate(plan, hooks);
  } catch (const CancelledError&) {
    if (wants_frames || record.denoise_s() == 0 || cancel.stop_requested()) throw;
  }
  made.seconds = record.denoise_s();
  if (wants_frames) made.frames = record.clips().at(0);
  made.hits = record.hits();
  return made;
}

/// One line of the table: a prompt with a cache, or the mean of a cache over the prompts.
struct Row {
  std::string cache;
  double seconds = 0, plain_seconds = 0;
  int64_t prompts = 0;
  double psnr = 0, psnr_clip = 0, psnr_least = std::numeric_limits<double>::infinity();
  std::optional<double> ssim, lpips;
  CacheReport::Hits hits;

  bool is_plain() const { return prompts == 0; }
  double speedup() const { return plain_seconds / seconds; }
};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

Row compared(const std::string& cache, const Made& plain, Made& made, const media::Lpips* lpips,
             const std::stop_token& cancel) {
  const auto stop_if_asked = [&cancel](int64_t) {
    if (cancel.stop_requested()) throw CancelledError();
  };
  const media::ClipMetrics m = media::compare_clips(plain.frames, made.frames, stop_if_asked);
  Row row{.cache = cache, .seconds = made.seconds, .plain_seconds = plain.seconds, .prompts = 1};
  row.psnr = row.psnr_least = m.psnr_mean;
  row.psnr_clip = m.psnr_clip;
  if (!m.ssim.empty()) row.ssim = m.ssim_mean;
  if (lpips != nullptr) row.lpips = mean_of(lpips->compare(plain.frames, made.frames, stop_if_asked));
  row.hits = std::move(made.hits);
  return row;
}

/// Sums, which mean_row divides; the seconds stay sums until then, so that the speed-up is that of the whole.
void add(Row& sums, const Row& row) {
  sums.seconds += row.seconds, sums.plain_seconds += row.plain_seconds;
  if (row.is_plain()) return;
  ++sums.prompts;
  sums.psnr += row.psnr, sums.psnr_clip += row.psnr_clip;
  sums.psnr_least = std::min(sums.psnr_least, row.psnr_least);
  if (row.ssim) sums.ssim = sums.ssim.value_or(0) + *row.ssim;
  if (row.lpips) sums.lpips = sums.lpips.value_or(0) + *row.lpips;
  for (const auto& [what, hits] : row.hits)
    sums.hits[what].computed += hits.computed, sums.hits[what].reused += hits.reused;
}

Row mean_row(Row sums, size_t prompts) {
  const auto n = static_cast<double>(prompts);
  for (double* sum : {&sums.seconds, &sums.plain_seconds, &sums.psnr, &sums.psnr_clip}) *sum /= n;
  if (sums.ssim) *sums.ssim /= n;
  if (sums.lpips) *sums.lpips /= n;
  return sums;
}

Json json_of(const Row& row) {
  Json out{{"cache", row.cache}, {"seconds", row.seconds}};
  if (row.is_plain()) return out;
  const auto or_null = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
  out.update({{"plain_seconds", row.plain_seconds},
              {"speedup", row.speedup()},
              {"psnr", row.psnr},
              {"psnr_clip", row.psnr_clip},
              {"psnr_least", row.psnr_least},
              {"ssim", or_null(row.ssim)},
              {"lpips", or_null(row.lpips)},
              {"hits", CacheReport::json(row.hits)}});
  return out;
}

/// The table on stdout, a row at a time: what is printed stays when the run is ended.
class Table {
 public:
  Table(bool json, const std::vector<std::string>& caches) : json_(json), name_width_(5) {
    for (const std::string& cache : caches) name_width_ = std::max(name_width_, static_cast<int>(cache.size()));
  }
  void begin(const Json& run, const std::string& words) {
    if (json_) return print_json(run);
    std::cout << words << "\n\n     " << std::left << std::setw(name_width_) << "cache" << std::right
              << "   seconds   faster     PSNR    SSIM    LPIPS  reused" << std::endl;
  }
  void prompt(size_t number, const std::string& prompt) {
    if (!json_) std::cout << std::setw(3) << number << "  " << printable(prompt, 100) << std::endl;
  }
  void mean(size_t prompts) {
    if (!json_) std::cout << "mean of " << prompts << (prompts == 1 ? " prompt" : " prompts") << std::endl;
  }
  /// `more`: what the row is of.
  void row(const Row& row, Json more) {
    if (json_) {
      more.update(json_of(row));
      return print_json(more);
    }
    std::cout << "     " << std::left << std::setw(name_width_) << row.cache << std::right << std::fixed
              << std::setprecision(3) << std::setw(10) << row.seconds;
    if (!row.is_plain()) {
      std::cout << std::setprecision(2) << std::setw(8) << row.speedup() << "x" << std::setw(9) << row.psnr;
      optional(row.ssim, 8), optional(row.lpips, 9);
      std::string reused;
      for (const auto& [what, hits] : row.hits)
        reused += concat(reused.empty() ? "" : ", ", what, " ", hits.reused, "/", hits.reused + hits.computed);
      std::cout << "  " << reused;
    }
    std::cout << std::endl;
  }

 private:
  static void optional(const std::optional<double>& value, int width) {
    if (value)
      std::cout << std::setprecision(4) << std::setw(width) << *value;
    else
      std::cout << std::setw(width) << "-";
  }
  bool json_;
  int name_width_;
};

Json run_of(const PromptsOptions& o, const video::Pipeline& pipeline, const video::Plan& plan, size_t prompts,
            const media::Lpips* lpips) {
  const auto [height, width] = pipeline.frame_size(plan);
  return {{"eval", "run"},
          {"model", pipeline.folder().name},
          {"prompts", prompts},
          {"steps", plan.steps},
          {"guidance_scale", plan.guidance_scale},
          {"num_frames", plan.num_frames},
          {"height", height},
          {"width", width},
          {"dtype", c10::toString(pipeline.dtype())},
          {"threads", at::get_num_threads()},
          {"seed", plan.seed},
          {"repeats", o.repeats},
          {"lpips", lpips == nullptr ? Json() : Json(lpips->trunk())}};
}

std::string words_of(const Json& run) {
  const auto text = [&run](const char* key) { return run.at(key).dump(); };
  return concat(printable(run.at("model").get<std::string>()), ": ", text("steps"), " steps, ", text("num_frames"),
                " frames of ", text("width"), "x", text("height"), ", ", run.at("dtype").get<std::string>(), ", ",
                text("threads"), run.at("threads") == 1 ? " thread" : " threads", ", seeds from ", text("seed"),
                "; denoising, best of ", text("repeats"));
}

/// The plain plan of a prompt, and one for each cache.
std::vector<video::Plan> plans_of(const video::Pipeline& pipeline, video::Request request, const std::string& prompt,
                                  uint64_t seed, const std::vector<std::string>& caches) {
  request.prompts = {prompt};
  request.seed = seed;
  std::vector<video::Plan> plans{pipeline.plan(request)};
  for (const std::string& cache : caches) {
    request.cache = cache;
    plans.push_back(pipeline.plan(request));
  }
  return plans;
}

}  // namespace

void add_prompts_options(CLI::App& command, PromptsOptions& o) {
  const size_t others = command.get_options().size();
  CLI::Option* cache =
      command.add_option("--cache", o.caches, "a cache to compare with the plain run; may be repeated")
          ->expected(1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--prompts", o.prompts_file, "file with a prompt on each line (default: of the model's world)");
  command.add_option("--count", o.count, "prompts (default: all of the file, or 20)")->check(CLI::Range(1, 100000));
  command.add_option("--seed", o.seed, "prompt i takes seed + i")->capture_default_str();
  command.add_option("--repeats", o.repeats, "seconds are the best of so many runs")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_making_options(command, o.request, true);
  add_model_options(command, o.model);
  add_threads(command, o.threads);
  const auto all = command.get_options();
  for (size_t i = others; i < all.size(); ++i) {
    all[i]->group("A table over prompts");
    if (all[i] != cache) all[i]->needs(cache);
  }
}

int eval_prompts(const PromptsOptions& o, const media::Lpips* lpips, bool json, Context& context) {
  use_threads(o.threads);
  const uint64_t seed = parse_seed(o.seed);
  const video::PipelineOptions options = pipeline_options(o.model, &context.ledger);
  const std::vector<std::string> prompts = prompts_of(o, options.paths.model, seed);
  const video::Request request = request_of(o.request);
  video::Pipeline pipeline = video::Pipeline::load(options);
  const std::vector<video::Plan> first = plans_of(pipeline, request, prompts.at(0), seed, o.caches);
  const auto [height, width] = pipeline.frame_size(first.at(0));
  if (lpips != nullptr) lpips->check_size(height, width);

  Table table(json, o.caches);
  const Json run = run_of(o, pipeline, first.at(0), prompts.size(), lpips);
  table.begin(run, words_of(run));
  video::Request warm_up = request;
  warm_up.steps = 2;  // reads the weights, and gives the operators their first call
  make(pipeline, plans_of(pipeline, warm_up, prompts[0], seed, {}).at(0), false, context.cancel);

  std::optional<Progress> progress;
  const auto runs = static_cast<int64_t>(prompts.size() * first.size()) * o.repeats;
  int64_t done = 0;
  if (!is_terminal(1)) {  // there the rows themselves show how far it is
    progress.emplace(std::cerr,
                     ProgressOptions{.label = "eval", .total = runs, .unit = "run", .is_terminal = is_terminal(2)});
  }
  std::vector<Row> sums(first.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto plans = plans_of(pipeline, request, prompts[i], seed + i, o.caches);
    std::vector<Made> made(plans.size());
    // In turn, so that what else the machine does meets all alike.
    for (int64_t repeat = 0; repeat < o.repeats; ++repeat) {
      for (size_t p = 0; p < plans.size(); ++p) {
        Made now = make(pipeline, plans[p], repeat == 0, context.cancel);
        if (repeat == 0)
          made[p] = std::move(now);
        else
          made[p].seconds = std::min(made[p].seconds, now.seconds);
        if (progress) progress->update(++done);
      }
    }
    table.prompt(i + 1, prompts[i]);
    for (size_t p = 0; p < plans.size(); ++p) {
      const Row row = p == 0 ? Row{.cache = "plain", .seconds = made[0].seconds}
                             : compared(o.caches[p - 1], made[0], made[p], lpips, context.cancel);
      table.row(row, {{"eval", "prompt"}, {"prompt", prompts[i]}, {"seed", seed + i}});
      sums[p].cache = row.cache;
      add(sums[p], row);
    }
  }
  if (progress) progress->finish();
  table.mean(prompts.size());
  for (const Row& sum : sums) table.row(mean_row(sum, prompts.size()), {{"eval", "mean"}, {"prompts", prompts.size()}});
  return 0;
}

}  // namespace kinora::cli
