// kinora bench dit, bench vae: whole models at their published sizes, with random weights.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/cli/bench.h"
#include "kinora/cli/model_options.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/tensor/allocator.h"

namespace kinora::cli {
namespace {

using at::Tensor;

struct Options {
  std::vector<int64_t> latent{5, 32, 32}, clip{17, 256, 256};
  int64_t batch = 2, layers = 28, text_tokens = 300, repeats = 3, threads = 0;
  std::string dtype = "auto";
  bool encode = false;
};

constexpr int64_t kMostSize = 16384;

ResidentWeights random_weights(const Params& params, at::ScalarType dtype) {
  const CountAs counted(MemoryKind::weights);
  std::vector<Tensor> tensors;
  for (const Param& p : params) {
    const double scale = p.shape.size() < 2 ? 1.0 : 1.0 / std::sqrt(static_cast<double>(p.shape.back()));
    tensors.push_back(at::empty(p.shape, dtype).uniform_(-scale, scale));
  }
  return ResidentWeights(std::move(tensors));
}

int dit(const Options& o, Context& context) {
  use_threads(o.threads);
  check_three_sizes("--latent", o.latent, kMostSize);
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = parse_dtype(o.dtype);
  models::STDiT3Config config;
  config.depth = o.layers;
  const models::STDiT3 model(config);
  ResidentWeights weights = random_weights(model.params(), dtype);
  Run run;
  run.weights = &weights;
  run.cancel = context.cancel;
  models::STDiT3Inputs in;
  in.latents = at::randn({o.batch, config.in_channels, o.latent[0], o.latent[1], o.latent[2]});
  in.timestep = at::full({o.batch}, 500.0, at::kFloat);
  in.caption = at::randn({o.batch, 1, config.model_max_length, config.caption_channels}, dtype);
  in.caption_mask = at::arange(config.model_max_length, at::kLong).lt(o.text_tokens).to(at::kLong).unsqueeze(0);
  in.fps = at::full({1}, 24.0, at::kFloat);
  in.height = static_cast<double>(8 * o.latent[1]);
  in.width = static_cast<double>(8 * o.latent[2]);

  const auto patches = [](int64_t size) { return (size + 1) / 2; };
  const int64_t rows = o.batch * o.latent[0] * patches(o.latent[1]) * patches(o.latent[2]);
  const Tensor x = at::randn({rows, config.hidden_size}, dtype),
               w = at::randn({config.mlp_size(), config.hidden_size}, dtype);
  const double gemm_flops = 2.0 * static_cast<double>(rows * config.hidden_size * config.mlp_size());
  const double flops = models::stdit3_flops(config, o.latent[0], o.latent[1], o.latent[2], o.text_tokens, o.batch);
  const auto forward = [&] { model.forward(run, in); };
  const auto gemm = [&] { at::linear(x, w); };

  context.ledger.reset_peaks();
  const uint64_t before = context.ledger.current(MemoryKind::activations);
  forward();
  const uint64_t activations = context.ledger.peak(MemoryKind::activations) - before;
  double best = HUGE_VAL, best_gemm = HUGE_VAL;
  for (int64_t i = 0; i < o.repeats; ++i) {
    best = std::min(best, seconds_of(forward));
    best_gemm = std::min(best_gemm, best_seconds(gemm, 1, 0.2));
  }
  const double floor = flops / (gemm_flops / best_gemm);
  print_json({{"bench", "dit"},
              {"model", "STDiT3-XL/2"},
              {"layers", o.layers},
              {"latent", o.latent},
              {"batch", o.batch},
              {"text_tokens", o.text_tokens},
              {"dtype", c10::toString(dtype)},
              {"threads", at::get_num_threads()},
              {"seconds", best},
              {"gflop", flops * 1e-9},
              {"gflops", flops / best * 1e-9},
              {"gemm_gflops", gemm_flops / best_gemm * 1e-9},
              {"ratio_to_gemm_floor", best / floor},
              {"activation_bytes", activations},
              {"peak_resident_bytes", peak_resident_bytes()}});
  return 0;
}

int vae(const Options& o, Context& context) {
  use_threads(o.threads);
  check_three_sizes("--clip", o.clip, kMostSize);
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = parse_dtype(o.dtype);
  const models::VideoVae model(models::VideoVaeConfig{});
  ResidentWeights weights = random_weights(model.params(), dtype);
  Run run;
  run.weights = &weights;
  run.cancel = context.cancel;
  const auto [t, h, w] = model.latent_size({o.clip[0], o.clip[1], o.clip[2]});
  const Tensor latents = at::randn({1, model.latent_channels(), t, h, w}, dtype);
  const Tensor pixels = o.encode ? at::rand({1, 3, o.clip[0], o.clip[1], o.clip[2]}, dtype) : Tensor();
  const auto work = [&] {
    if (o.encode)
      model.encode(run, pixels);
    else
      model.decode_chunks(run, latents, o.clip[0], [](const Tensor&, int64_t) {});
  };
  context.ledger.reset_peaks();
  const uint64_t before = context.ledger.current(MemoryKind::activations);
  double best = HUGE_VAL;
  for (int64_t i = 0; i < o.repeats; ++i) best = std::min(best, seconds_of(work));
  print_json({{"bench", "vae"},
              {"work", o.encode ? "encode" : "decode"},
              {"clip", o.clip},
              {"dtype", c10::toString(dtype)},
              {"threads", at::get_num_threads()},
              {"seconds", best},
              {"frames_per_s", static_cast<double>(o.clip[0]) / best},
              {"activation_bytes", context.ledger.peak(MemoryKind::activations) - before},
              {"peak_resident_bytes", peak_resident_bytes()}});
  return 0;
}

}  // namespace

void add_bench_models(CLI::App& bench, Action& action) {
  auto o = std::make_shared<Options>();
  const auto common = [&](CLI::App* c, int (*work)(const Options&, Context&)) {
    c->add_option("--dtype", o->dtype, "bfloat16, float32 or auto")->capture_default_str();
    c->add_option("--repeats", o->repeats, "the best of so many counts")
        ->check(CLI::Range(1, 10000))
        ->capture_default_str();
    add_threads(*c, o->threads);
    c->callback([o, work, &action] { action = [o, work](Context& context) { return work(*o, context); }; });
  };
  CLI::App* d = bench.add_subcommand("dit", "one call of STDiT3-XL/2, and its distance from the matrix products' rate");
  d->footer("Example: kinora bench dit --latent 5 32 32 --batch 2 --layers 4 --dtype bfloat16");
  d->add_option("--latent", o->latent, "latent frames, height, width")->expected(3)->capture_default_str();
  d->add_option("--batch", o->batch, "rows; a guided clip has 2")->check(CLI::Range(1, 1024))->capture_default_str();
  d->add_option("--layers", o->layers, "pairs of blocks")->check(CLI::Range(1, 1000))->capture_default_str();
  d->add_option("--text-tokens", o->text_tokens, "tokens of each caption")
      ->check(CLI::Range(1, 300))
      ->capture_default_str();
  common(d, dit);
  CLI::App* v = bench.add_subcommand("vae", "Open-Sora 1.2's video autoencoder");
  v->footer("Example: kinora bench vae --clip 17 256 256");
  v->add_option("--clip", o->clip, "frames, height, width")->expected(3)->capture_default_str();
  v->add_flag("--encode", o->encode, "encode in place of decode");
  common(v, vae);
}

}  // namespace kinora::cli
