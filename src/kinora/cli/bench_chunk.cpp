// kinora bench chunk: activation memory and time in pieces, against the plain computation and against a replay that frees
// every tensor after its last use.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <ctime>
#include <memory>
#include <numeric>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/cli/bench.h"
#include "kinora/cli/chunk_shapes.h"
#include "kinora/cli/memory_trace.h"
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
  std::vector<double> shares;  ///< of the plain peak
  std::vector<std::string> budgets;
  int64_t size = 0, threads = 1, repeats = 5;
  bool is_close = false;
  std::string cap, trace;
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
};

Tensor through(const Chunked& chunked, Tensor x) {
  std::vector<Tensor> in;
  in.push_back(std::move(x));
  return chunked(std::move(in))[0];
}

graph::PlanOptions plan_options(const Options& o, const graph::Machine& machine, int64_t budget) {
  return {.budget = budget, .exact = !o.is_close, .machine = machine};
}

std::vector<int64_t> budgets_of(const Options& o, int64_t plain) {
  std::vector<int64_t> budgets;
  for (const double share : o.shares) budgets.push_back(static_cast<int64_t>(share * static_cast<double>(plain)));
  for (const std::string& text : o.budgets) budgets.push_back(static_cast<int64_t>(parse_bytes(text)));
  return budgets;
}

double share_of(int64_t bytes, const Way& eager) {
  return static_cast<double>(bytes) / static_cast<double>(eager.peak);
}

/// Its time over that of each of `others`, in turn.
std::pair<double, double> time_ratios(const Way& way, const std::vector<Way>& others, const Tensor& x, int64_t repeats,
                                      Context& context) {
  std::vector<double> to_first, to_second;
  for (int64_t i = 0; i < repeats; ++i) {
    if (context.cancel.stop_requested()) throw CancelledError();
    const auto once = [&](const Way& which) {
      Tensor copy = x.clone();
      return cpu_seconds([&] { which.run(std::move(copy)); });
    };
    const double first = once(others[0]), second = once(others[1]), own = once(way);
    to_first.push_back(own / first);
    to_second.push_back(own / second);
  }
  return {median(to_first), median(to_second)};
}

void compare(const Options& o, const ChunkShape& shape, const graph::Machine& machine, Context& context) {
  const int64_t size = o.size > 0 ? o.size : shape.size;
  const Graph graph = capture_of(shape, size);
  const Chunked liveness(graph, {});
  std::vector<Way> ways;
  ways.push_back({"plain", [&](Tensor x) { return shape.forward(x); }});
  ways.push_back({"by last use", [&](Tensor x) { return through(liveness, std::move(x)); }});
  const Tensor x = shape.input(size), want = shape.forward(x);
  for (Way& way : ways) {
    Tensor y;
    way.peak = peak_of(context.ledger, [&] { y = way.run(x.clone()); });
  }
  std::vector<std::unique_ptr<Chunked>> chunked;
  std::string traces;
  const auto trace = [&](const Way& way) {
    const auto work = [&] { way.run(x.clone()); };
    if (!o.trace.empty()) traces += trace_line(trace_memory(context.ledger, way.name, work)).dump() + "\n";
  };
  for (const Way& way : ways) trace(way);
  for (const int64_t budget : budgets_of(o, ways[0].peak)) {
    graph::Plan plan;
    double plan_seconds = 0;
    try {
      plan_seconds = seconds_of([&] { plan = graph::plan(graph, plan_options(o, machine, budget)); });
    } catch (const ResourceError& e) {
      print_json({{"bench", "chunk"},
                  {"shape", shape.name},
                  {"size", size},
                  {"budget_share", share_of(budget, ways[0])},
                  {"refused", e.hint()}});
      continue;
    }
    chunked.push_back(std::make_unique<Chunked>(graph, plan.regions));
    const Chunked& now = *chunked.back();
    Way way{"in pieces", [&now](Tensor t) { return through(now, std::move(t)); }};
    Tensor y;
    way.peak = peak_of(context.ledger, [&] { y = way.run(x.clone()); });
    const auto [to_eager, to_liveness] = time_ratios(way, ways, x, o.repeats, context);
    print_json({{"bench", "chunk"},
                {"shape", shape.name},
                {"size", size},
                {"nodes", graph.size()},
                {"budget_share", share_of(budget, ways[0])},
                {"budget_mb", static_cast<double>(budget) * 1e-6},
                {"eager_mb", static_cast<double>(ways[0].peak) * 1e-6},
                {"liveness_mb", static_cast<double>(ways[1].peak) * 1e-6},
                {"chunked_mb", static_cast<double>(way.peak) * 1e-6},
                {"predicted_mb", static_cast<double>(plan.bytes) * 1e-6},
                {"of_eager", share_of(way.peak, ways[0])},
                {"of_liveness", share_of(way.peak, ways[1])},
                {"time_of_eager", to_eager},
                {"time_of_liveness", to_liveness},
                {"predicted_time", plan.seconds / plan.whole_seconds},
                {"regions", plan.regions.size()},
                {"plan_ms", plan_seconds * 1e3},
                {"equal", y.equal(want)},
                {"distance", (y - want).abs().max().item<double>()},
                {"largest", want.abs().max().item<double>()}});
    trace(way);
  }
  if (!o.trace.empty()) write_file(o.trace, traces);
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

int bench_chunk(Options o, Context& context) {
  use_threads(o.threads);
  if (o.shares.empty() && o.budgets.empty()) o.shares = {0.4, 0.3, 0.2};
  if (!o.trace.empty() && (o.shapes.size() != 1 || !o.cap.empty()))
    throw UsageError("--trace is of one shape within budgets", "kinora bench chunk gpt --budget 0.2 --trace FILE");
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
  c->add_option("shapes", o->shapes, "gpt, vit, unet, dit; whole models: gpt2-96, vit-l-384, unet2d; none: all");
  c->add_option("--size", o->size, "tokens, or pixels each way; 0: each shape's own")->capture_default_str();
  c->add_option("--budget", o->shares, "shares of the plain peak (default: 0.4 0.3 0.2)")
      ->check(CLI::Range(0.001, 1.0));
  c->add_option("--within", o->budgets, "budgets as amounts, such as 8MB");
  c->add_option("--longest", o->cap, "instead: the largest size within so much memory, such as 64MB");
  c->add_option("--trace", o->trace, "file for memory over time, which kinora plot draws; of one shape");
  c->add_flag("--close", o->is_close, "pieces that are equal up to rounding, too (norms in two passes, sums in parts)");
  c->add_option("--repeats", o->repeats, "rounds, of which the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return bench_chunk(*o, context); }; });
}

}  // namespace kinora::cli
