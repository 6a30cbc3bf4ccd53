#include "kinora/cli/bench_model.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "kinora/base/memory.h"
#include "kinora/cli/model_options.h"
#include "kinora/tensor/allocator.h"

namespace kinora::cli {
namespace {

using at::Tensor;

void add_rates(Json& line, const BenchModel& model, double seconds, double product_seconds) {
  if (model.frames > 0) line["frames_per_s"] = static_cast<double>(model.frames) / seconds;
  if (model.flops == 0) return;
  const auto& [rows, columns, inner] = model.product;
  const double product_rate = 2.0 * static_cast<double>(rows * columns * inner) / product_seconds;
  line["gflop"] = model.flops * 1e-9;
  line["gflops"] = model.flops / seconds * 1e-9;
  line["gemm_gflops"] = product_rate * 1e-9;
  line["ratio_to_gemm_floor"] = seconds / (model.flops / product_rate);
}

}  // namespace

ResidentWeights random_weights(const Params& params, at::ScalarType dtype) {
  const CountAs counted(MemoryKind::weights);
  std::vector<Tensor> tensors;
  for (const Param& p : params) {
    const double scale = p.shape.size() < 2 ? 1.0 : 1.0 / std::sqrt(static_cast<double>(p.shape.back()));
    tensors.push_back(at::empty(p.shape, dtype).uniform_(-scale, scale));
  }
  return ResidentWeights(std::move(tensors));
}

int bench_model(const BenchModelOptions& o, MakeBenchModel make, Context& context) {
  use_threads(o.threads);
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = parse_dtype(o.dtype);
  const BenchModel model = make(o, dtype);
  ResidentWeights weights = random_weights(*model.params, dtype);
  Run run;
  run.weights = &weights;
  run.cancel = context.cancel;
  const auto& [rows, columns, inner] = model.product;
  const Tensor x = at::randn({rows, inner}, dtype), w = at::randn({columns, inner}, dtype);
  const auto forward = [&] { model.forward(run); };

  context.ledger.reset_peaks();
  const uint64_t before = context.ledger.current(MemoryKind::activations);
  if (model.warm_up) forward();
  double best = HUGE_VAL, best_product = HUGE_VAL;
  for (int64_t i = 0; i < o.repeats; ++i) {
    best = std::min(best, seconds_of(forward));
    if (model.flops > 0) best_product = std::min(best_product, best_seconds([&] { at::linear(x, w); }, 1, 0.2));
  }
  Json line = model.line;
  line.update({{"dtype", c10::toString(dtype)},
               {"threads", at::get_num_threads()},
               {"parameters", model.params->num_elements()},
               {"seconds", best}});
  add_rates(line, model, best, best_product);
  line["activation_bytes"] = context.ledger.peak(MemoryKind::activations) - before;
  line["peak_resident_bytes"] = peak_resident_bytes();
  print_json(line);
  return 0;
}

}  // namespace kinora::cli
