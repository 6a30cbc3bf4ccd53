// kinora bench dit --budget: what a model's call takes with its blocks in pieces, as generate runs them.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <ctime>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/cli/bench_model.h"
#include "kinora/cli/model_options.h"
#include "kinora/graph/block_graphs.h"
#include "kinora/nn/site.h"

namespace kinora::cli {
namespace {

using at::Tensor;

/// Notes what a stack gives, whoever runs it.
class LastStreams final : public Policy {
 public:
  explicit LastStreams(Policy* inner) : inner_(inner) {}
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    last = inner_ ? inner_->stack(run, blocks, std::move(streams)) : Policy::stack(run, blocks, std::move(streams));
    return last;
  }
  Streams last;

 private:
  Policy* inner_;
};

struct Bench {
  BenchModel model;
  ResidentWeights weights;
  Context& context;

  void call(Policy* policy) {
    Run run;
    run.weights = &weights, run.policy = policy, run.cancel = context.cancel;
    model.forward(run);
  }
  int64_t peak(Policy* policy) {
    context.ledger.reset_peaks();
    const uint64_t before = context.ledger.current(MemoryKind::activations);
    call(policy);
    return static_cast<int64_t>(context.ledger.peak(MemoryKind::activations) - before);
  }
  double cpu_seconds(Policy* policy) {
    const std::clock_t begin = std::clock();
    call(policy);
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  }
  Streams streams(Policy* policy) {
    LastStreams last(policy);
    call(&last);
    return last.last;
  }
};

graph::BlockGraphOptions within(int64_t budget) {
  return {.plan = {.budget = budget}, .verifies = false, .uses_arena = false};
}

double median(std::vector<double> all) {
  std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
  return all[all.size() / 2];
}

}  // namespace

int bench_pieces(const BenchModelOptions& o, MakeBenchModel make, Context& context) {
  use_threads(o.threads);
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = parse_dtype(o.dtype);
  BenchModel made = make(o, dtype);
  ResidentWeights random = random_weights(*made.params, dtype);
  Bench bench{std::move(made), std::move(random), context};
  const Streams want = bench.streams(nullptr);
  const int64_t plain = bench.peak(nullptr);
  graph::BlockGraphs whole(within(INT64_MAX));
  bench.call(&whole);  // captures
  const int64_t by_last_use = bench.peak(&whole), beside = by_last_use - whole.counts().bytes;
  for (const double share : o.budget) {
    const auto budget = static_cast<int64_t>(share * static_cast<double>(plain));
    Json line = bench.model.line;
    line["bench"] = "pieces";
    line.update({{"dtype", c10::toString(dtype)},
                 {"threads", at::get_num_threads()},
                 {"budget_share", share},
                 {"plain_mb", static_cast<double>(plain) * 1e-6},
                 {"by_last_use_mb", static_cast<double>(by_last_use) * 1e-6}});
    graph::BlockGraphs pieces(within(budget - std::max<int64_t>(0, beside)));
    try {
      const double first_s = bench.cpu_seconds(&pieces);
      const int64_t peak = bench.peak(&pieces);
      const Streams got = bench.streams(&pieces);
      std::vector<double> times;
      for (int64_t i = 0; i < o.repeats; ++i) {
        const double before = bench.cpu_seconds(nullptr);
        times.push_back(bench.cpu_seconds(&pieces) / before);
      }
      bool is_equal = true;
      for (size_t i = 0; i < want.size(); ++i) is_equal = is_equal && got[i].equal(want[i]);
      line.update({{"in_pieces_mb", static_cast<double>(peak) * 1e-6},
                   {"of_plain", static_cast<double>(peak) / static_cast<double>(plain)},
                   {"predicted_block_mb", static_cast<double>(pieces.counts().bytes) * 1e-6},
                   {"time_of_plain", median(times)},
                   {"first_call_s", first_s},
                   {"equal", is_equal}});
    } catch (const ResourceError& e) {
      line["refused"] = e.hint();
    }
    print_json(line);
  }
  return 0;
}

}  // namespace kinora::cli
