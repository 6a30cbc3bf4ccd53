// kinora batch: clips of any shapes from a file of requests, by one process or by groups of ranks side by side.
#include <chrono>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/cli/clip_writer.h"
#include "kinora/cli/command.h"
#include "kinora/cli/launch.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/ranks.h"
#include "kinora/cli/requests_file.h"
#include "kinora/cli/signals.h"
#include "kinora/comm/agree.h"
#include "kinora/diffusion/scheduler.h"
#include "kinora/media/ffmpeg.h"
#include "kinora/media/output.h"
#include "kinora/models/open_sora/work.h"
#include "kinora/parallel/deal.h"

namespace kinora::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string file, memory, parallel = "auto";
  int64_t threads = 0;
  int ranks = 0, groups = 0;
  bool json = false;
};

/// One request with what it comes to.
struct Piece {
  FiledRequest filed;
  video::Plan plan;
  double flops = 0;
};

/// Checked before any work: the whole file is to be made.
void check_outputs(const std::vector<FiledRequest>& requests) {
  for (const FiledRequest& filed : requests) {
    media::check_output(filed.output);
    if (media::output_kind(filed.output) == media::OutputKind::kMp4) media::require_h264();
  }
}

Piece planned(const video::Pipeline& pipeline, FiledRequest filed, const Options& o) {
  video::Request& request = filed.request;
  request.keeps_clips = false;
  request.collects_frames = media::output_kind(filed.output) != media::OutputKind::kMp4;
  request.memory = parse_bytes(o.memory), request.parallel = o.parallel;
  try {
    text::check_prompt(request.prompts.at(0));
    video::Plan plan = pipeline.plan(request);
    const auto [height, width] = pipeline.frame_size(plan);
    media::check_output_size(filed.output, plan.total_frames(), height, width);
    const auto& model = pipeline.sizes().transformer;
    const auto [t, h, w] =
        models::VideoVae(pipeline.sizes().vae).latent_size({plan.num_frames, plan.height, plan.width});
    const double call = models::stdit3_flops(model, t, h, w, model.model_max_length, plan.is_guided() ? 2 : 1);
    const double flops = call * static_cast<double>(plan.scheduler->timesteps().size());
    return {std::move(filed), std::move(plan), flops};
  } catch (const Error& error) {
    throw Error(concat(filed.where, ": ", error.what()), error.hint(), error.exit_code());
  }
}

/// Makes one clip; the file is written by the first rank of the group.
Json make(video::Pipeline& pipeline, const Piece& piece, bool writes, bool shows, Context& context) {
  const auto begin = std::chrono::steady_clock::now();
  ClipWriter writer(pipeline, piece.plan, piece.filed.output);
  StageLine line;
  video::Hooks hooks;
  hooks.cancel = context.cancel;
  if (writes)
    hooks.on_frames = [&](int64_t index, media::Frames frames, int64_t) { writer.add(index, std::move(frames)); };
  hooks.on_progress = [&](video::Stage stage, int64_t done, int64_t total) {
    throw_if_file_was_cut();
    if (shows) line.show(stage, done, total);
  };
  pipeline.generate(piece.plan, hooks);
  writer.finish();
  const auto [height, width] = pipeline.frame_size(piece.plan);
  return {{"file", piece.filed.output.string()},
          {"prompt", piece.plan.prompts.at(0)},
          {"seed", piece.plan.seed},
          {"num_frames", piece.plan.total_frames()},
          {"height", height},
          {"width", width},
          {"steps", piece.plan.steps},
          {"cache", piece.plan.cache},
          {"quantize", piece.plan.quantize},
          {"lora", piece.plan.adapters},
          {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()}};
}

int groups_of(const Options& o, size_t requests, int ranks) {
  if (o.groups == 0) return parallel::groups_for(static_cast<int64_t>(requests), ranks);
  if (ranks % o.groups == 0) return o.groups;
  throw UsageError(concat(ranks, " ranks do not make ", o.groups, " groups of one size"),
                   "give --groups a number that divides the ranks, or leave it out");
}

int batch(const Options& o, Context& context) {
  ModelOptions model = o.model;
  model.device = context.ranks.own_device(model.device);
  video::PipelineOptions options = pipeline_options(model, &context.ledger);
  comm::Communicator& all = context.ranks.join(options.device);
  const bool is_first = all.rank() == 0;
  if (!is_first) set_log_sink([](LogLevel, std::string_view) {});
  use_threads(o.threads);
  std::vector<FiledRequest> requests = read_requests(o.file);
  comm::agree(all, "the file of requests", read_file(o.file, uint64_t{16} << 20));
  if (is_first) check_outputs(requests);
  const int groups = groups_of(o, requests.size(), all.size()), group = all.rank() / (all.size() / groups);
  const auto team = all.split(group, all.rank());

  options.ranks = team.get(), options.ranks_of_host = context.ranks.of_host();
  video::Pipeline pipeline = video::Pipeline::load(options);
  std::vector<Piece> pieces;
  std::vector<double> costs;
  for (FiledRequest& filed : requests) {
    pieces.push_back(planned(pipeline, std::move(filed), o));
    costs.push_back(pieces.back().flops);
  }
  const std::vector<int> dealt = parallel::deal(costs, groups);
  std::string own;  // a line for each clip: its number and what came of it
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (dealt[i] != group) continue;
    Json row = make(pipeline, pieces[i], team->rank() == 0, is_first, context);
    row["group"] = group;
    if (team->rank() == 0) own += row.dump(-1, ' ', true) + "\n";
  }
  all.rendezvous("end of the batch");

  std::map<std::string, Json> by_file;
  for (const std::string& text : comm::gather_texts(all, own, "results")) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      Json row = parse_json(line, {}, "result");
      const std::string file = row.at("file").get<std::string>();
      by_file[file] = std::move(row);
    }
  }
  for (const Piece& piece : pieces) {
    if (!is_first) break;
    const std::string file = piece.filed.output.string();
    if (o.json)
      print_json(by_file.at(file));
    else
      std::cout << file << "\n";
  }
  return 0;
}

/// Everything that can be refused before ranks are started.
void check(const Options& o, Context& context) {
  std::vector<FiledRequest> requests = read_requests(o.file);
  check_outputs(requests);
  const int each = o.ranks / groups_of(o, requests.size(), o.ranks);
  const video::Pipeline pipeline = video::Pipeline::load(pipeline_options(o.model, &context.ledger));
  for (FiledRequest& filed : requests) {
    filed.request.ranks = each;
    planned(pipeline, std::move(filed), o);
  }
}

}  // namespace

void add_batch(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("batch", "make clips of any shapes from a file of requests");
  c->footer(
      "Example: kinora batch requests.jsonl --ranks 4\n"
      "         where each line is {\"prompt\": \"a red ball\", \"output\": \"ball.mp4\", \"height\": 96, "
      "\"num_frames\": 25}");
  c->add_option("requests", o->file, "file with a JSON object on each line (docs/generate.md)")->required();
  add_model_options(*c, o->model);
  add_weight_options(*c, o->model);
  c->add_option("--memory", o->memory, "most memory of each process, such as 8GB (default: what is free)");
  c->add_option("--ranks", o->ranks, "processes of this host")->check(CLI::Range(1, 4096));
  c->add_option("--groups", o->groups,
                "groups of ranks that make clips side by side (default: as many as requests, as far as that divides)")
      ->check(CLI::Range(1, 4096));
  c->add_option("--parallel", o->parallel, "how the rows of a clip lie over a group's ranks (docs/parallel.md)");
  add_threads(*c, o->threads);
  c->add_flag("--json", o->json, "print one JSON line for each clip");
  c->callback([o, &action] {
    action = [o](Context& context) {
      return on_ranks(
          o->ranks, context, [&] { check(*o, context); }, [&](comm::Communicator&) { return batch(*o, context); });
    };
  });
}

}  // namespace kinora::cli
