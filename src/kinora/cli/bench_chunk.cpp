// kinora bench chunk: activation memory and time in pieces, against the plain computation and against a replay that frees
// every tensor after its last use.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <ctime>
#include <memory>
#include <numeric>

#include "kinora/base/error.h"
#include "kinora/cli/bench.h"
#include "kinora/cli/chunk_shapes.h"
#include "kinora/graph/capture.h"
#include "kinora/graph/chunked.h"
#include "kinora/graph/plan.h"

namespace kinora::cli {
namespace {

using at::Tensor;
using graph::Chunked;
using graph::Graph;

struct Options {
  std::vector<std::string> shapes;
  std::vector<double> shares{0.4, 0.3, 0.2};
  int64_t size = 0, threads = 1, repeats = 5;
  bool is_close = false;
  std::string cap;
};

/// Processor time: wall time on a shared machine swings more than what is measured.
double cpu_seconds(const std::function<void()>& work) {
  const std::clock_t begin = std::clock();
  work();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

double median(std::vector<double> all) {
  std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
  return all[all.size() / 2];
}

/// Bytes of activations at their most while `work` runs, the input among them.
int64_t peak_of(Ledger& ledger, const std::function<void()>& work) {
  ledger.reset_peaks();
  const uint64_t before = ledger.current_total();
  work();
  return static_cast<int64_t>(ledger.peak_total() - before);
}

Graph capture_of(const ChunkShape& shape, int64_t size) {
  // An expanded number has the shape without the memory; its twin is to have the strides of the real input.
  const Tensor like = shape.input(size);
  return graph::capture({{like}, {}, 1}, [&](const auto& in) -> std::vector<Tensor> { return {shape.forward(in[0])}; });
}

struct Way {
  std::string name;
  std::function<Tensor(Tensor)> run;
  int64_t peak = 0;
  std::vector<double> seconds = {};
};

Tensor through(const Chunked& chunked, Tensor x) {
  std::vector<Tensor> in;
  in.push_back(std::move(x));
  return chunked(std::move(in))[0];
}

graph::PlanOptions plan_options(const Options& o, const graph::Machine& machine, int64_t budget) {
  return {.budget = budget, .exact = !o.is_close, .machine = machine};
}

void compare(const Options& o, const ChunkShape& shape, const graph::Machine& machine, Context& context) {
  const int64_t size = o.size > 0 ? o.size : shape.size;
  const Graph graph = capture_of(shape, size);
  const Chunked liveness(graph, {});
  std::vector<Way> ways;
  ways.push_back({"eager", [&](Tensor x) { return shape.forward(x); }});
  ways.push_back({"liveness", [&](Tensor x) { return through(liveness, std::move(x)); }});
  const Tensor x = shape.input(size), want = shape.forward(x);
  for (Way& way : ways) {
    Tensor y;
    way.peak = peak_of(context.ledger, [&] { y = way.run(x.clone()); });
  }
  std::vector<std::unique_ptr<Chunked>> chunked;
  std::vector<graph::Plan> plans;
  for (const double share : o.shares) {
    const auto budget = static_cast<int64_t>(share * static_cast<double>(ways[0].peak));
    graph::Plan plan;
    double plan_seconds = 0;
    try {
      plan_seconds = seconds_of([&] { plan = graph::plan(graph, plan_options(o, machine, budget)); });
    } catch (const ResourceError& e) {
      print_json(
          {{"bench", "chunk"}, {"shape", shape.name}, {"size", size}, {"budget_share", share}, {"refused", e.hint()}});
      continue;
    }
    chunked.push_back(std::make_unique<Chunked>(graph, plan.regions));
    const Chunked& now = *chunked.back();
    Way way{"chunked", [&now](Tensor t) { return through(now, std::move(t)); }};
    Tensor y;
    way.peak = peak_of(context.ledger, [&] { y = way.run(x.clone()); });
    std::vector<double> to_eager, to_liveness;
    for (int64_t i = 0; i < o.repeats; ++i) {  // in turn
      if (context.cancel.stop_requested()) throw CancelledError();
      double seconds[3];
      for (size_t w = 0; w < 3; ++w) {
        Way& which = w < 2 ? ways[w] : way;
        Tensor copy = x.clone();
        seconds[w] = cpu_seconds([&] { which.run(std::move(copy)); });
      }
      to_eager.push_back(seconds[2] / seconds[0]);
      to_liveness.push_back(seconds[2] / seconds[1]);
    }
    print_json({{"bench", "chunk"},
                {"shape", shape.name},
                {"size", size},
                {"nodes", graph.size()},
                {"budget_share", share},
                {"budget_mb", static_cast<double>(budget) * 1e-6},
                {"eager_mb", static_cast<double>(ways[0].peak) * 1e-6},
                {"liveness_mb", static_cast<double>(ways[1].peak) * 1e-6},
                {"chunked_mb", static_cast<double>(way.peak) * 1e-6},
                {"predicted_mb", static_cast<double>(plan.bytes) * 1e-6},
                {"of_eager", static_cast<double>(way.peak) / static_cast<double>(ways[0].peak)},
                {"of_liveness", static_cast<double>(way.peak) / static_cast<double>(ways[1].peak)},
                {"time_of_eager", median(to_eager)},
                {"time_of_liveness", median(to_liveness)},
                {"predicted_time", plan.seconds / plan.whole_seconds},
                {"regions", plan.regions.size()},
                {"plan_ms", plan_seconds * 1e3},
                {"equal", y.equal(want)},
                {"distance", (y - want).abs().max().item<double>()}});
  }
}

/// The largest size, in steps, at which `fits`: doubled, then halved.
int64_t longest(int64_t step, const std::function<bool(int64_t)>& fits) {
  int64_t good = 0, bad = step;
  while (fits(bad)) good = bad, bad *= 2;
  while (bad - good > step && bad - good > good / 32) {
    const int64_t middle = (good + (bad - good) / 2) / step * step;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

void find_longest(const Options& o, const ChunkShape& shape, const graph::Machine& machine, int64_t cap,
                  Context& context) {
  const int64_t eager = longest(shape.step, [&](int64_t n) {
    Tensor x = shape.input(n), y;
    const int64_t held = static_cast<int64_t>(x.nbytes());
    return held + peak_of(context.ledger, [&] { y = shape.forward(x); }) <= cap;
  });
  const auto planned = [&](int64_t n) {
    return graph::least_budget(capture_of(shape, n), plan_options(o, machine, 0)) <= cap;
  };
  int64_t chunked = longest(shape.step, planned), peak = 0;
  for (;; chunked -=
          shape.step * std::max<int64_t>(1, chunked / shape.step / 50)) {  // until what is measured fits as well
    const Graph graph = capture_of(shape, chunked);
    const Chunked pieces(graph, graph::plan(graph, plan_options(o, machine, cap)).regions);
    Tensor x = shape.input(chunked), y;
    peak = static_cast<int64_t>(x.nbytes()) + peak_of(context.ledger, [&] { y = through(pieces, std::move(x)); });
    if (peak <= cap) break;
  }
  print_json({{"bench", "chunk"},
              {"shape", shape.name},
              {"cap_mb", static_cast<double>(cap) * 1e-6},
              {"longest_eager", eager},
              {"longest_chunked", chunked},
              {"chunked_mb", static_cast<double>(peak) * 1e-6},
              {"times", static_cast<double>(chunked) / static_cast<double>(eager)}});
}

int bench_chunk(const Options& o, Context& context) {
  use_threads(o.threads);
  const at::NoGradGuard no_grad;
  const graph::Machine machine = graph::measure_machine();
  for (const std::string& name : o.shapes.empty() ? chunk_shape_names() : o.shapes) {
    const ChunkShape shape = chunk_shape(name);
    if (o.size % shape.step != 0 || o.size < 0)
      throw UsageError(concat("--size ", o.size, " for ", name), concat("give a multiple of ", shape.step));
    if (o.cap.empty()) {
      compare(o, shape, machine, context);
    } else {
      find_longest(o, shape, machine, static_cast<int64_t>(parse_bytes(o.cap)), context);
    }
  }
  return 0;
}

}  // namespace

void add_bench_chunk(CLI::App& bench, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = bench.add_subcommand("chunk", "activation memory and time in pieces: eager, replayed, chunked");
  c->footer("Example: kinora bench chunk gpt --size 2048 --budget 0.2 0.1");
  c->add_option("shapes", o->shapes, "gpt, vit, unet, dit; none: all");
  c->add_option("--size", o->size, "tokens, or pixels each way; 0: each shape's own")->capture_default_str();
  c->add_option("--budget", o->shares, "shares of the eager peak")
      ->check(CLI::Range(0.001, 1.0))
      ->capture_default_str();
  c->add_option("--longest", o->cap, "instead: the largest size within so much memory, such as 64MB");
  c->add_flag("--close", o->is_close, "pieces that are equal up to rounding, too (norms in two passes, sums in parts)");
  c->add_option("--repeats", o->repeats, "rounds, of which the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return bench_chunk(*o, context); }; });
}

}  // namespace kinora::cli
