// kinora bench parallel: one call of a model over ranks, by every layout: what it takes, and what is sent, against the
// closed formulas. And kinora bench layouts: what the formulas say of more ranks than are here.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/cli/bench_model.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/ranks.h"
#include "kinora/comm/traffic.h"
#include "kinora/models/open_sora/work.h"
#include "kinora/parallel/bytes.h"
#include "kinora/parallel/layouts.h"
#include "kinora/parallel/plan.h"
#include "kinora/video/spread.h"

namespace kinora::cli {
namespace {

models::STDiT3Config depth_of(const BenchModelOptions& o) {
  models::STDiT3Config config;
  config.depth = o.layers;
  return config;
}

Extent extent_of(const BenchModelOptions& o) {
  const auto patches = [](int64_t size) { return (size + 1) / 2; };
  return {.frames = o.latent[0], .rows = patches(o.latent[1]) * patches(o.latent[2])};
}

/// The largest of all ranks' values.
double most(double value, comm::Communicator& ranks) {
  const at::Tensor all = at::empty({ranks.size()}, at::kDouble);
  const std::vector<int64_t> ones(static_cast<size_t>(ranks.size()), 1);
  ranks.all_gather(all, at::full({1}, value, at::kDouble), ones, "measured")->wait();
  return all.max().item<double>();
}

struct Measured {
  parallel::Arrangement arrangement;
  std::unique_ptr<comm::Traffic> traffic = std::make_unique<comm::Traffic>();
  std::unique_ptr<comm::Counted> ranks;
  std::unique_ptr<parallel::MadeLayout> layout;
  double seconds = HUGE_VAL;
  int64_t calls = 0;
};

std::vector<Measured> every_layout(const parallel::ModelFacts& facts, const Extent& extent, comm::Communicator& ranks) {
  std::vector<Measured> all;
  for (const parallel::LayoutKind& kind : parallel::layouts()) {
    parallel::Arrangement a{.layout = kind.name, .home = Axis::frames, .ranks = ranks.size()};
    if (a.layout == "ulysses+ring") {
      if (a.ranks % 2 != 0 || a.ranks < 4) continue;
      a.heads_ranks = a.ranks / 2;
    }
    if (a.ranks > extent.of(a.home)) a.home = Axis::rows;
    Measured m{.arrangement = a};
    m.ranks = std::make_unique<comm::Counted>(ranks, *m.traffic);
    m.layout = std::make_unique<parallel::MadeLayout>(parallel::make_layout(a, facts, extent, *m.ranks));
    m.traffic->clear();  // of the making
    all.push_back(std::move(m));
  }
  return all;
}

Json line_of(const Measured& m, const parallel::ModelFacts& facts, const parallel::CallShape& call, int rank,
             comm::Communicator& ranks) {
  const parallel::Ledger sent = parallel::by_name(*m.traffic),
                         expected = parallel::expected_bytes(
                             m.arrangement, facts, call, rank,
                             {.attentions = m.calls * parallel::exchanging_attentions(facts, m.arrangement.home),
                              .calls = m.calls});
  if (sent != expected) throw PeerError("what was sent is not what the formulas say");
  const auto each = [&](const comm::Sent& all, int64_t comm::Sent::*what) {
    return most(static_cast<double>(all.*what) / static_cast<double>(m.calls), ranks);
  };
  const comm::Sent in_blocks = parallel::total_in_blocks(sent), all = parallel::total(sent);
  return {{"layout", m.arrangement.layout},
          {"home", m.arrangement.home == Axis::frames ? "frames" : "rows"},
          {"seconds", most(m.seconds, ranks)},
          {"exchanges", each(all, &comm::Sent::calls)},
          {"bytes", each(all, &comm::Sent::bytes)},
          {"bytes_in_blocks", each(in_blocks, &comm::Sent::bytes)},
          {"waited_s", most(m.traffic->waited_s() / static_cast<double>(m.calls), ranks)}};
}

}  // namespace

int bench_parallel(const BenchModelOptions& o, MakeBenchModel make, Context& context) {
  use_threads(o.threads);
  const at::NoGradGuard no_grad;
  comm::Communicator& ranks = context.ranks.join();
  const at::ScalarType dtype = parse_dtype(o.dtype);
  at::manual_seed(1);  // the same model on all ranks
  const BenchModel model = make(o, dtype);
  ResidentWeights weights = random_weights(*model.params, dtype);
  const parallel::ModelFacts facts = video::facts_of(depth_of(o));
  const Extent extent = extent_of(o);
  const parallel::CallShape call{
      .batch = o.batch, .extent = extent, .element_bytes = static_cast<int64_t>(c10::elementSize(dtype))};
  Run run;
  run.weights = &weights;
  std::vector<Measured> all = every_layout(facts, extent, ranks);
  for (int64_t round = 0; round <= o.repeats; ++round) {
    for (Measured& m : all) {
      run.layout = &m.layout->layout();
      ranks.barrier("together");
      const double seconds = seconds_of([&] { model.forward(run); });
      if (round > 0) m.seconds = std::min(m.seconds, seconds);  // the first warms up
      ++m.calls;
    }
  }
  Json line = model.line;
  line.update({{"bench", "parallel"},
               {"dtype", c10::toString(dtype)},
               {"ranks", ranks.size()},
               {"threads", at::get_num_threads()}});
  for (const Measured& m : all) line["layouts"].push_back(line_of(m, facts, call, ranks.rank(), ranks));
  if (ranks.rank() == 0) print_json(line);
  return 0;
}

namespace {

struct Machine {
  const char* name;
  parallel::Link link;
};
/// Bytes one way of one GPU, as the makers state them, and the time of an exchange as public benchmarks of NCCL show it.
constexpr Machine kMachines[] = {
    {"NVLink 4, 450 GB/s", {.bytes_per_second = 450e9, .latency_seconds = 20e-6}},
    {"InfiniBand NDR, 50 GB/s", {.bytes_per_second = 50e9, .latency_seconds = 30e-6}},
    {"PCIe 4 x16, 25 GB/s", {.bytes_per_second = 25e9, .latency_seconds = 30e-6}},
};
constexpr double kGpuFlops = 400e12;  ///< of a GPU in bfloat16, four tenths of an H100's peak

}  // namespace

int bench_layouts(const BenchModelOptions& o, MakeBenchModel, Context&) {
  const models::STDiT3Config config = depth_of(o);
  parallel::Request request{
      .facts = video::facts_of(config),
      .call = {.batch = o.batch, .extent = extent_of(o), .element_bytes = 2},
      .seconds_of_one =
          models::stdit3_flops(config, o.latent[0], o.latent[1], o.latent[2], o.text_tokens, o.batch) / kGpuFlops};
  for (const Machine& machine : kMachines) {
    request.link = machine.link;
    for (const int ranks : {8, 16, 32, 64, 128}) {
      request.ranks = ranks;
      Json line{{"bench", "layouts"}, {"latent", o.latent}, {"link", machine.name}, {"ranks", ranks}};
      std::vector<std::string> seen;
      for (const parallel::Candidate& c : parallel::layout_candidates(request)) {  // the fastest of each name first
        const std::string name = parallel::name_of(c.arrangement);
        if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
        seen.push_back(name);
        line["layouts"].push_back({{"layout", name},
                                   {"bytes", c.bytes},
                                   {"seconds", c.seconds},
                                   {"speedup", request.seconds_of_one / c.seconds}});
      }
      print_json(line);
    }
  }
  return 0;
}

}  // namespace kinora::cli
