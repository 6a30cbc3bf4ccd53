// kinora bench comm: what exchanges between the ranks of this run cost, and what waiting with a deadline adds.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "kinora/base/error.h"
#include "kinora/cli/bench.h"
#include "kinora/cli/ranks.h"
#include "kinora/comm/counts.h"
#include "kinora/comm/traffic.h"

namespace kinora::cli {
namespace {

using at::Tensor;

struct Options {
  std::vector<int64_t> sizes{4 << 10, 256 << 10, 4 << 20, 32 << 20};
  int64_t repeats = 7, threads = 0;
};

/// Every rank makes as many calls. The best of several series, as this rank saw it.
double best_together(comm::Communicator& group, const std::function<void()>& work, int64_t calls) {
  group.barrier("bench");
  return seconds_of([&] {
           for (int64_t i = 0; i < calls; ++i) work();
         }) /
         static_cast<double>(calls);
}

struct Collective {
  const char* name;
  std::function<void()> work;
};

std::vector<Collective> collectives(comm::Communicator& group, int64_t elements) {
  const auto counts = comm::even_counts(elements, group.size());
  const int64_t own = counts[static_cast<size_t>(group.rank())];
  const Tensor whole = at::ones({elements}), other = at::empty({elements}), part = at::ones({own});
  // What each sends to each: rows that no rank has one more of than another.
  const std::vector<int64_t> even(counts.size(), elements / group.size());
  const int64_t total = comm::sum(even);
  return {{"all_to_all",
           [=, &group] {
             group.all_to_all(other.narrow(0, 0, total), whole.narrow(0, 0, total), even, even, "bench")->wait();
           }},
          {"all_gather", [=, &group] { group.all_gather(other, part, counts, "bench")->wait(); }},
          {"reduce_scatter", [=, &group] { group.reduce_scatter(part, whole, counts, "bench")->wait(); }},
          {"all_reduce", [=, &group] { group.all_reduce(other, "bench")->wait(); }},
          {"broadcast", [=, &group] { group.broadcast(other, 0, "bench")->wait(); }}};
}

int64_t calls_for(int64_t bytes) {
  return std::clamp<int64_t>((int64_t{64} << 20) / std::max<int64_t>(bytes, 1), 3, 200);
}

void measure_collectives(comm::Communicator& ranks, const Options& o, const std::stop_token& cancel) {
  for (const int64_t bytes : o.sizes) {
    comm::Traffic traffic;
    comm::Counted group(ranks, traffic);
    for (const Collective& c : collectives(group, bytes / 4)) {
      if (cancel.stop_requested()) throw CancelledError();
      c.work();  // warms up
      traffic.clear();
      c.work();
      const comm::Sent sent = traffic.of("bench", c.name);
      double best = best_together(ranks, c.work, calls_for(bytes));
      for (int64_t i = 1; i < o.repeats; ++i) best = std::min(best, best_together(ranks, c.work, calls_for(bytes)));
      if (ranks.rank() != 0) continue;
      print_json({{"bench", "comm"},
                  {"collective", c.name},
                  {"ranks", ranks.size()},
                  {"buffer_bytes", bytes},
                  {"sent_bytes", sent.bytes},
                  {"us", best * 1e6},
                  {"sent_gbytes_per_s", static_cast<double>(sent.bytes) / best * 1e-9}});
    }
  }
}

/// Sums in the order of ranks that end with an error when a rank stays away, beside MPI's own.
void measure_polling(comm::Communicator& group, comm::World& world, const Options& o) {
  const Tensor values = at::zeros({1 << 20});
  const auto ours = [&] { group.all_reduce(values, "bench")->wait(); };
  const auto plain = [&] { world.plain_all_reduce(values); };
  ours(), plain();
  double ours_s = 1e9, plain_s = 1e9;
  for (int64_t i = 0; i < o.repeats; ++i) {
    plain_s = std::min(plain_s, best_together(group, plain, 20));
    ours_s = std::min(ours_s, best_together(group, ours, 20));
  }
  if (group.rank() == 0)
    print_json({{"bench", "comm"},
                {"collective", "all_reduce beside MPI_Allreduce"},
                {"ranks", group.size()},
                {"buffer_bytes", 4 << 20},
                {"us", ours_s * 1e6},
                {"plain_us", plain_s * 1e6},
                {"ratio", ours_s / plain_s}});
}

int bench_comm(const Options& o, Context& context) {
  use_threads(o.threads);
  for (const int64_t bytes : o.sizes) {
    if (bytes < 4 || bytes > int64_t{1} << 33)
      throw UsageError(concat("--size cannot be ", bytes), "choose 4 bytes to 8 GiB");
  }
  comm::Communicator& group = context.ranks.join();
  if (context.ranks.world() == nullptr)
    throw UsageError("one rank has nobody to exchange with", "start several: kinora launch -n 2 -- kinora bench comm");
  const at::NoGradGuard no_grad;
  measure_collectives(group, o, context.cancel);
  measure_polling(group, *context.ranks.world(), o);
  return 0;
}

}  // namespace

void add_bench_comm(CLI::App& bench, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = bench.add_subcommand("comm", "exchanges between ranks: bytes, time, and what deadlines cost");
  c->footer("Example: kinora launch -n 2 -- kinora bench comm");
  c->add_option("--size", o->sizes, "bytes of the whole buffer")->capture_default_str();
  c->add_option("--repeats", o->repeats, "the best of so many series")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return bench_comm(*o, context); }; });
}

}  // namespace kinora::cli
