// kinora bench gemm: what matrix products reach, and the processor's limit.
#include "kinora/cli/bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "kinora/base/error.h"

namespace kinora::cli {
namespace {

struct Options {
  std::vector<int64_t> sizes{4096, 4608, 1152};
  int64_t threads = 0, repeats = 5;
};

int gemm(const Options& o, Context& context) {
  use_threads(o.threads);
  check_three_sizes("--size", o.sizes, 1 << 20);
  const int threads = at::get_num_threads();
  const at::NoGradGuard no_grad;
  const double flops =
      2.0 * static_cast<double>(o.sizes[0]) * static_cast<double>(o.sizes[1]) * static_cast<double>(o.sizes[2]);
  for (const auto& [dtype, peak] :
       {std::pair{at::kFloat, peak_float32(threads)}, {at::kBFloat16, peak_bfloat16(threads)}}) {
    if (context.cancel.stop_requested()) throw CancelledError();
    const at::Tensor x = at::randn({o.sizes[0], o.sizes[2]}, dtype), w = at::randn({o.sizes[1], o.sizes[2]}, dtype),
                     bias = at::zeros({o.sizes[1]}, dtype);
    const double seconds = best_seconds([&] { at::linear(x, w, bias); }, o.repeats);
    Json line{{"bench", "gemm"},
              {"dtype", c10::toString(dtype)},
              {"threads", threads},
              {"size", o.sizes},
              {"gflops", flops / seconds * 1e-9}};
    if (peak > 0) line["peak_gflops"] = peak * 1e-9, line["share_of_peak"] = flops / seconds / peak;
    print_json(line);
  }
  return 0;
}

}  // namespace

void check_three_sizes(const char* option, const std::vector<int64_t>& sizes, int64_t most) {
  const auto fits = [most](int64_t size) { return size >= 1 && size <= most; };
  if (sizes.size() != 3 || !std::all_of(sizes.begin(), sizes.end(), fits))
    throw UsageError(concat(option, " takes three numbers of 1 to ", most));
}

void add_bench(CLI::App& app, Action& action) {
  CLI::App* bench = app.add_subcommand("bench", "development: measure the machine, operators, models; JSON lines");
  bench->require_subcommand(1);
  auto o = std::make_shared<Options>();
  CLI::App* c = bench->add_subcommand("gemm", "matrix products in float32 and bfloat16, and the processor's limit");
  c->footer("Example: kinora bench gemm --size 10240 4608 1152");
  c->add_option("--size", o->sizes, "rows, columns, inner")->expected(3)->capture_default_str();
  c->add_option("--repeats", o->repeats, "the best of so many counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return gemm(*o, context); }; });
  add_bench_ops(*bench, action);
  add_bench_models(*bench, action);
  add_bench_builtin(*bench, action);
  add_bench_comm(*bench, action);
  add_bench_chunk(*bench, action);
  add_bench_offload(*bench, action);
}

}  // namespace kinora::cli
