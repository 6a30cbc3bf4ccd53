// kinora plan: what a request will take, before any of it is done. Reads configs and the headers of weights files.
#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <tuple>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/cache_report.h"
#include "kinora/cli/command.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/request_options.h"
#include "kinora/diffusion/scheduler.h"
#include "kinora/models/open_sora/video_vae.h"

namespace kinora::cli {
namespace {

struct Options {
  ModelOptions model;
  RequestOptions request;
  bool json = false;
};

/// Everything that is printed.
struct Forecast {
  video::Plan plan;
  video::MemoryEstimate memory;
  int64_t height, width;           ///< of the frames
  std::array<int64_t, 4> latents;  ///< channels, frames, height, width
  std::array<int64_t, 3> patches;  ///< frames, height, width
  int64_t rows;                    ///< of a model call: clips at a time, twice with guidance
  int64_t calls;
  double call_flops;
  uint64_t room, held;                   ///< memory that is free for it, and that the process has already
  uint64_t least = 0;                    ///< --memory that it would run in, one clip at a time; 0: see the refusal
  std::optional<ResourceError> refusal;  ///< what `generate` would say

  int64_t tokens() const { return patches[0] * patches[1] * patches[2]; }
};

Forecast forecast(const video::Pipeline& pipeline, video::Request request, at::Device device) {
  if (request.prompts.empty()) request.prompts = {"a clip"};  // its words cost the same
  request.keeps_clips = false;
  const video::ModelSizes& sizes = pipeline.sizes();
  const models::VideoVae vae(sizes.vae);
  Forecast f{};
  const video::Room room = video::memory_room(request.memory, device);
  f.room = room.bytes, f.held = room.held;
  try {
    f.plan = pipeline.plan(request);
  } catch (const ResourceError& error) {
    f.refusal = error;
    f.plan = video::make_plan(request, pipeline.folder().defaults, vae.downscale());
    f.plan.batch = 1, f.plan.one_by_one = true;
  }
  f.memory = video::estimate_memory(sizes, f.plan);
  if (!f.refusal) f.least = f.held + pipeline.least_room(f.plan);
  std::tie(f.height, f.width) = pipeline.frame_size(f.plan);
  const auto [t, h, w] = vae.latent_size({f.plan.num_frames, f.plan.height, f.plan.width});
  f.latents = {vae.latent_channels(), t, h, w};
  const auto& patch = sizes.transformer.patch_size;
  for (size_t i = 0; i < 3; ++i) f.patches[i] = (f.latents[i + 1] + patch[i] - 1) / patch[i];
  f.rows = f.plan.rows();
  const int64_t each = f.plan.scheduler ? static_cast<int64_t>(f.plan.scheduler->timesteps().size()) : f.plan.steps;
  const auto clips = static_cast<int64_t>(f.plan.prompts.size());
  f.calls = (clips + f.plan.batch - 1) / f.plan.batch * each * f.plan.passes() * f.plan.calls_of_step();
  f.call_flops = models::stdit3_flops(sizes.transformer, t, h, w, sizes.transformer.model_max_length, f.rows);
  return f;
}

struct Row {
  const char* stage;
  uint64_t weights, activations, peak;
  bool is_limit;  ///< no other takes more, with what is held beside it
};

std::array<Row, 3> rows_of(const Forecast& f) {
  const video::MemoryEstimate& m = f.memory;
  const auto all = m.stage_peaks(f.plan.one_by_one);
  const uint64_t most = *std::max_element(all.begin(), all.end());
  return {{{"text", m.text_weights, m.text, m.text_peak(), all[0] == most},
           {"denoise", m.transformer_weights, m.denoise, m.denoise_peak(), all[1] == most},
           {"decode", m.vae_weights, m.decode, m.decode_peak(), all[2] == most}}};
}

Json pieces_json(const Forecast& f, const video::ModelSizes& sizes) {
  const video::Pieces& pieces = f.plan.pieces;
  if (pieces.budget == 0) return nullptr;
  video::Plan whole = f.plan;
  whole.pieces = {};
  return {{"budget_bytes", pieces.budget},
          {"bytes", pieces.bytes},
          {"whole_bytes", video::estimate_memory(sizes, whole).blocks},
          {"predicted_time", pieces.slowdown}};
}

uint64_t predicted(const Forecast& f) { return f.plan.one_by_one ? f.memory.one_by_one() : f.memory.together(); }

/// "1.9 GFLOP"
std::string human_flops(double flops) {
  static constexpr const char* kUnits[] = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"};
  size_t unit = 0;
  for (; flops >= 1000 && unit + 1 < std::size(kUnits); ++unit) flops /= 1000;
  std::ostringstream out;
  out << std::fixed << std::setprecision(unit == 0 ? 0 : 1) << flops << " " << kUnits[unit];
  return out.str();
}

void print_as_json(const video::Pipeline& pipeline, const Options& o, const Forecast& f) {
  Json stages = Json::array();
  for (const Row& row : rows_of(f)) {
    stages.push_back({{"stage", row.stage},
                      {"weights_bytes", row.weights},
                      {"activations_bytes", row.activations},
                      {"peak_bytes", row.peak},
                      {"is_limit", row.is_limit}});
  }
  print_json({{"model", pipeline.folder().name},
              {"dtype", c10::toString(pipeline.dtype())},
              {"device", o.model.device},
              {"clips", f.plan.prompts.size()},
              {"num_frames", f.plan.total_frames()},
              {"passes", f.plan.passes()},
              {"height", f.height},
              {"width", f.width},
              {"fps", f.plan.fps},
              {"latents", f.latents},
              {"tokens", f.tokens()},
              {"steps", f.plan.steps},
              {"guidance_scale", f.plan.guidance_scale},
              {"batch", f.plan.batch},
              {"rows_per_call", f.rows},
              {"branches_apart", f.plan.branches_apart},
              {"model_calls", f.calls},
              {"flops_per_call", f.call_flops},
              {"ranks", f.plan.spread.ranks()},
              {"parallel", f.plan.spread.ranks() > 1 ? Json(f.plan.spread.reason) : Json()},
              {"sent_bytes_per_call", f.plan.spread.bytes},
              {"cache", f.plan.cache},
              {"quantize", f.plan.quantize},
              {"lora", f.plan.adapters},
              {"expected",
               f.plan.expected ? Json{{"speed", f.plan.expected->speed}, {"psnr", f.plan.expected->psnr}} : Json()},
              {"stages", stages},
              {"pieces", pieces_json(f, pipeline.sizes())},
              {"streams_weights", f.plan.weights.transformer.has_value()},
              {"cache_bytes", f.memory.caches},
              {"cache_budget", f.plan.cache_budget ? json_of(*f.plan.cache_budget) : Json()},
              {"output_bytes", f.memory.output},
              {"one_by_one", f.plan.one_by_one},
              {"peak_bytes", predicted(f)},
              {"peak_resident_bytes", f.held + predicted(f)},
              {"room_bytes", f.room},
              {"least_memory", f.refusal ? Json() : Json(video::memory_figure(f.least))},
              {"fits", !f.refusal},
              {"nearest", f.refusal ? Json(f.refusal->hint()) : Json()}});
}

void print_as_text(const video::Pipeline& pipeline, const Options& o, const Forecast& f) {
  const auto line = [](const char* what) -> std::ostream& { return std::cout << std::left << std::setw(9) << what; };
  const size_t clips = f.plan.prompts.size();
  line("model") << printable(pipeline.folder().name, 200) << ", " << c10::toString(pipeline.dtype()) << " on "
                << o.model.device << (f.plan.quantize == "none" ? "" : ", matrices as " + f.plan.quantize) << "\n";
  line("clip") << f.plan.total_frames() << (f.plan.total_frames() == 1 ? " frame of " : " frames of ") << f.height
               << "x" << f.width << ", " << f.plan.fps << " a second";
  if (f.plan.passes() > 1) std::cout << "; " << f.plan.passes() << " passes of " << f.plan.num_frames;
  if (clips > 1) std::cout << "; " << clips << " clips, " << f.plan.batch << " at a time";
  std::cout << "\n";
  line("latents") << f.latents[0] << "x" << f.latents[1] << "x" << f.latents[2] << "x" << f.latents[3] << ", "
                  << f.tokens() << " tokens (" << f.patches[0] << "x" << f.patches[1] << "x" << f.patches[2] << ")\n";
  line("work") << f.plan.steps << (f.plan.steps == 1 ? " step, " : " steps, ") << f.calls << " model calls of "
               << human_flops(f.call_flops) << " (batch " << f.plan.batch
               << (f.plan.branches_apart ? ", branches of guidance apart), "
                   : f.plan.is_guided()  ? ", twice for guidance), "
                                         : ", no guidance), ")
               << human_flops(f.call_flops * static_cast<double>(f.calls)) << " in all\n";
  for (const Json& adapter : f.plan.adapters) {
    line("lora") << printable(adapter.at("name").get<std::string>(), 200) << ", strength " << adapter.at("strength")
                 << "\n";
  }
  if (f.plan.expected) line("") << expectation_of(f.plan) << "\n";
  if (f.plan.spread.ranks() > 1) line("ranks") << f.plan.spread.reason << "\n";
  std::cout << "\n";
  const auto row = [](const std::string& name, const std::string& weights, const std::string& activations,
                      const std::string& peak, const char* note) {
    std::cout << std::left << std::setw(9) << name << std::right << std::setw(11) << weights << std::setw(13)
              << activations << std::setw(11) << peak << note << "\n";
  };
  row("stage", "weights", "activations", "peak", "");
  for (const Row& r : rows_of(f))
    row(r.stage, human_bytes(r.weights), human_bytes(r.activations), human_bytes(r.peak), r.is_limit ? "  limit" : "");
  row("frames", "", human_bytes(f.memory.output), "", "");
  std::cout << "\n";
  if (f.plan.cache != "none") {
    line("cache") << printable(f.plan.cache, 200) << " keeps at most " << human_bytes(f.memory.caches);
    if (const auto& budget = f.plan.cache_budget; budget && budget->sites > 0)
      std::cout << " of " << human_bytes(budget->all_bytes) << ": " << cache::text_of(*budget);
    std::cout << "\n";
  }
  line("peak") << human_bytes(predicted(f)) << " and " << human_bytes(f.held) << " that the program itself takes, "
               << (f.plan.one_by_one ? "each part's weights freed before the next is loaded"
                                     : "all parts loaded at once")
               << "\n";
  if (f.plan.pieces.budget > 0) line("denoise") << text_of(f.plan.pieces) << "\n";
  if (f.plan.weights.transformer) line("offload") << text_of(f.plan.weights, pipeline.sizes()) << "\n";
  line(f.refusal ? "no fit" : "fits") << human_bytes(f.room) << " of memory are there";
  if (!f.refusal) std::cout << "; the least that works is --memory " << video::memory_figure(f.least);
  std::cout << "\n";
}

int plan(const Options& o, Context& context) {
  const video::Request request = request_of(o.request);
  const video::PipelineOptions options = pipeline_options(o.model, &context.ledger);
  const video::Pipeline pipeline = video::Pipeline::load(options);
  const Forecast f = forecast(pipeline, request, options.device);
  if (o.json)
    print_as_json(pipeline, o, f);
  else
    print_as_text(pipeline, o, f);
  if (f.refusal) throw ResourceError(*f.refusal);
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("plan", "say what a clip will take in memory and work, without making it");
  c->footer("Example: kinora plan --model FOLDER --resolution 480p --aspect-ratio 9:16 --frames 4s");
  add_request_options(*c, o->request);
  add_model_options(*c, o->model);
  add_weight_options(*c, o->model);
  c->add_flag("--json", o->json, "print one JSON object");
  c->callback([o, &action] { action = [o](Context& context) { return plan(*o, context); }; });
}

}  // namespace kinora::cli
