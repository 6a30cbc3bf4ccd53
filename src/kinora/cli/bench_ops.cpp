// kinora bench op: the operators at the sizes of STDiT3-XL/2 (256x256, 17 frames, a guided pair).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "kinora/base/error.h"
#include "kinora/cli/bench.h"
#include "kinora/cli/model_options.h"
#include "kinora/ops/attention.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/linear.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/patchify.h"
#include "kinora/ops/residual.h"

namespace kinora::cli {
namespace {

using at::Tensor;

struct Options {
  std::vector<std::string> names;
  std::string dtype = "auto";
  int64_t threads = 0, repeats = 5;
};

struct Case {
  const char* name;
  double flops;     ///< 0: bytes are what counts
  double elements;  ///< read and written, in the run's dtype
  std::function<Tensor()> work;
};

constexpr int64_t kBatch = 2, kFrames = 5, kRows = 256, kWidth = 1152, kHeads = 16, kHead = 72, kHidden = 4608,
                  kText = 300;
constexpr double kTokens = kBatch * kFrames * kRows;

std::vector<Case> cases(at::ScalarType dtype) {
  const auto randn = [dtype](at::IntArrayRef shape) { return at::randn(shape, dtype); };
  const Tensor x = randn({kBatch, kFrames, kRows, kWidth}), y = randn(x.sizes()),
               hidden = randn({kBatch, kFrames, kRows, kHidden});
  const Tensor w = randn({kHidden, kWidth}), bias = randn({kHidden});
  const Tensor scale = randn({kBatch, 1, 1, kWidth}), shift = randn(scale.sizes());
  const Tensor q = randn({kBatch * kFrames, kHeads, kRows, kHead}), k = randn(q.sizes()), v = randn(q.sizes());
  const Tensor norm = randn({kHead}), cos = randn({kRows, kHead / 2}), sin = randn({kRows, kHead / 2});
  const Tensor q_all = randn({kBatch, kHeads, kFrames * kRows, kHead}), text = randn({kHeads, kBatch * kText, kHead});
  const Tensor picture = randn({4, 256, 64, 64}), group = randn({256}), w2 = randn({256, 256, 3, 3}),
               clip = randn({1, 128, 20, 32, 32}), w3 = randn({128, 128, 3, 3, 3});
  const Tensor latents = randn({kBatch, 4, kFrames, 32, 32}), patch = randn({kWidth, 4, 1, 2, 2}),
               patch_bias = randn({kWidth});
  const double size = kTokens * kWidth;
  return {
      {"linear", 2 * size * kHidden, 0, [=] { return ops::linear(x, w, bias); }},
      {"gelu_tanh", 0, 2 * kTokens * kHidden, [=] { return ops::activate(hidden, ops::Activation::gelu_tanh); }},
      {"silu", 0, 2 * kTokens * kHidden, [=] { return ops::activate(hidden, ops::Activation::silu); }},
      {"layer_norm", 0, 2 * size, [=] { return ops::layer_norm(x, std::nullopt, std::nullopt, scale, shift, 1e-6); }},
      {"rms_norm", 0, 2 * size, [=] { return ops::rms_norm(q, norm, 1e-6); }},
      {"qk_norm_rotary", 0, 2 * size, [=] { return ops::qk_norm_rotary(q, norm, std::nullopt, 1e-6, cos, sin); }},
      {"attention", 4 * size * kRows, 0, [=] { return ops::attention(q, k, v); }},
      {"attention_packed", 4 * size * kText, 0,
       [=] {
         return ops::attention_packed(q_all, text, text, {kText, kText});
       }},
      {"add_residual", 0, 3 * size, [=] { return ops::add_residual(x, y, scale); }},
      {"group_norm", 0, 2.0 * 4 * 256 * 64 * 64,
       [=] { return ops::group_norm(picture, 32, group, group, 1e-6, ops::Activation::silu); }},
      {"conv2d", 2.0 * 4 * 256 * 64 * 64 * 256 * 9, 0,
       [=] {
         return ops::conv(picture, w2, std::nullopt, {1, 1}, {1, 1});
       }},
      {"conv3d", 2.0 * 128 * 20 * 32 * 32 * 128 * 27, 0,
       [=] {
         return ops::conv(clip, w3, std::nullopt, {1, 1, 1}, {1, 1, 1});
       }},
      {"patchify", 2.0 * kTokens * kWidth * 16, 0, [=] { return ops::patchify(latents, patch, patch_bias); }},
  };
}

int bench_ops(const Options& o, Context& context) {
  use_threads(o.threads);
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = parse_dtype(o.dtype);
  const auto all = cases(dtype);
  std::string known;
  for (const Case& c : all) known += (known.empty() ? "" : ", ") + std::string(c.name);
  for (const std::string& name : o.names) {
    if (std::none_of(all.begin(), all.end(), [&](const Case& c) { return c.name == name; })) {
      throw UsageError(concat("there is no operator \"", name, "\""), "known are " + known);
    }
  }
  for (const Case& c : all) {
    if (!o.names.empty() && std::find(o.names.begin(), o.names.end(), c.name) == o.names.end()) continue;
    if (context.cancel.stop_requested()) throw CancelledError();
    const double seconds = best_seconds(c.work, o.repeats);
    Json line{{"bench", "op"},
              {"op", c.name},
              {"dtype", c10::toString(dtype)},
              {"threads", at::get_num_threads()},
              {"ms", seconds * 1e3}};
    if (c.flops > 0) line["gflops"] = c.flops / seconds * 1e-9;
    if (c.elements > 0)
      line["gbytes_per_s"] = c.elements * static_cast<double>(c10::elementSize(dtype)) / seconds * 1e-9;
    print_json(line);
  }
  return 0;
}

}  // namespace

void add_bench_ops(CLI::App& bench, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = bench.add_subcommand("op", "operators at the sizes of STDiT3-XL/2");
  c->footer("Example: kinora bench op attention linear --dtype bfloat16");
  c->add_option("names", o->names, "operators; none: all");
  c->add_option("--dtype", o->dtype, "bfloat16, float32 or auto")->capture_default_str();
  c->add_option("--repeats", o->repeats, "the best of so many counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return bench_ops(*o, context); }; });
}

}  // namespace kinora::cli
