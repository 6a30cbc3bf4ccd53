// A run over ranks that does nothing but steps of collectives, and whatever fault it is told to have: the program of
// tests/faults.py and tests/launch_test.py.
//
//   steps_on_ranks [--steps N] [--step-ms MS] [--fault KIND] [--fault-rank R] [--fault-step N] [--state FILE]
//
// Each step adds numbers that depend on step and element up over all ranks, so that the sum does not depend on how many
// there are. Rank 0 prints the last checksum. --state: kept after each step as rank 0's checkpoint, and gone on from.
#include <ATen/ATen.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <thread>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/base/log.h"
#include "kinora/cli/ranks.h"
#include "kinora/cli/signals.h"
#include "kinora/comm/agree.h"
#include "kinora/comm/counts.h"
#include "kinora/comm/steps.h"
#include "kinora/comm/traffic.h"
#include "kinora/tensor/allocator.h"

namespace {

using namespace kinora;

struct Options {
  int64_t steps = 20, step_ms = 5, fault_rank = 1, fault_step = 5, save_ms = 0;
  std::string fault, state, config = "same";
};

constexpr int64_t kElements = 1000;

/// This rank's rows of numbers that do not depend on how many ranks share them.
at::Tensor own_rows(const comm::Communicator& group, int64_t step) {
  const auto counts = comm::even_counts(kElements, group.size());
  const auto begin = comm::offsets(counts)[static_cast<size_t>(group.rank())];
  const at::Tensor all = at::sin(at::arange(kElements, at::kDouble) * 0.37 + static_cast<double>(step));
  return all.narrow(0, begin, counts[static_cast<size_t>(group.rank())]).contiguous();
}

double collective_step(comm::Communicator& group, int64_t step, const std::string& fault) {
  const auto counts = comm::even_counts(kElements, group.size());
  const at::Tensor whole = at::empty({kElements}, at::kDouble);
  if (fault != "skip") {
    auto given = counts;
    at::Tensor rows = own_rows(group, step);
    if (fault == "dtype") rows = rows.to(at::kFloat);
    if (fault == "count") {
      // One row less than the others think.
      given[static_cast<size_t>(group.rank())] -= 1;
      rows = rows.narrow(0, 0, rows.size(0) - 1).contiguous();
    }
    const at::Tensor out = at::empty({comm::sum(given)}, rows.scalar_type());
    group.all_gather(out, rows, given, fault == "name" ? "other rows" : "rows")->wait();
    whole.narrow(0, 0, out.numel()).copy_(out);
  }
  const at::Tensor sums = whole.slice(0, group.rank(), std::nullopt, group.size()).sum().reshape({1});
  if (fault == "reorder") group.barrier("step");
  group.all_reduce(sums, "sums")->wait();
  if (fault != "reorder") group.barrier("step");
  // In one order whatever the ranks: the parts' sum only shows that they all arrived.
  const double total = whole.sum().item<double>();
  if (std::abs(total - sums.item<double>()) > 1e-9) throw std::logic_error("the ranks' parts do not add up");
  return total;
}

/// A file that the disk has no room for, or a tensor that memory has none for.
void run_out_of(const std::string& what) {
  if (what == "disk") {
    const rlimit nothing{0, 0};
    ::setrlimit(RLIMIT_FSIZE, &nothing);
    write_file(std::filesystem::temp_directory_path() / concat("steps-", ::getpid()), "this rank's part");
  } else {
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t little_more = pages * static_cast<rlim_t>(::getpagesize()) + (rlim_t{32} << 20);
    const rlimit both{little_more, little_more};
    ::setrlimit(RLIMIT_AS, &both);
    static_cast<void>(at::zeros({int64_t{64} << 20}));
  }
}

/// What a rank does to itself.
void suffer(const std::string& fault, comm::Communicator& group) {
  if (fault == "throw") throw DataError("this rank's file is damaged");
  if (fault == "bug") throw std::runtime_error("this rank has a bug");
  if (fault == "abort") std::abort();
  if (fault == "exit") ::_exit(0);
  if (fault == "exit3") ::_exit(3);
  if (fault == "kill") ::raise(SIGKILL);
  if (fault == "stop") ::raise(SIGSTOP);
  if (fault == "leave") throw CancelledError();  // without the others
  if (fault == "disk" || fault == "memory") run_out_of(fault);
  static_cast<void>(group);
}

int run(const Options& o, cli::Ranks& ranks, const cli::CancelOnSignal& signals) {
  comm::Traffic traffic;
  comm::Counted group(ranks.join(), traffic);
  const bool is_it = group.rank() == o.fault_rank;
  comm::agree(group, "the configuration", is_it && o.fault == "config" ? "other" : o.config);
  log_info(concat("process ", ::getpid()));  // for those who send signals
  int64_t step = 0;
  double sum = 0;
  if (!o.state.empty() && std::filesystem::exists(o.state)) {
    const Json file = read_json_file(o.state);
    const JsonObject saved(file, o.state);
    step = saved.require_int("step");
    sum = saved.require_number("sum");
  }
  comm::Steps steps(group);
  for (; step < o.steps; ++step) {
    const auto begin = std::chrono::steady_clock::now();
    const double waited = traffic.waited_s();
    const bool is_now = is_it && step == o.fault_step;
    if (is_now) suffer(o.fault, group);
    std::this_thread::sleep_for(std::chrono::milliseconds(o.step_ms + (is_it && o.fault == "slow" ? 300 : 0)));
    sum += collective_step(group, step, is_now ? o.fault : "");
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const bool stops = steps.agree_to_stop(signals.token().stop_requested(), wall - (traffic.waited_s() - waited));
    if (group.rank() == 0 && !o.state.empty()) {
      if (stops) std::this_thread::sleep_for(std::chrono::milliseconds(o.save_ms));  // a checkpoint that takes its time
      write_file(o.state, Json{{"step", step + 1}, {"sum", sum}}.dump());
    }
    if (stops) throw CancelledError();
  }
  if (group.rank() == 0) {
    std::cout.precision(17);
    std::cout << sum << std::endl;
  }
  ranks.finish();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Steps of collectives, with a fault.");
  Options o;
  app.add_option("--steps", o.steps);
  app.add_option("--step-ms", o.step_ms);
  app.add_option("--save-ms", o.save_ms);
  app.add_option("--fault", o.fault);
  app.add_option("--fault-rank", o.fault_rank);
  app.add_option("--fault-step", o.fault_step);
  app.add_option("--state", o.state);
  app.add_option("--config", o.config);
  CLI11_PARSE(app, argc, argv);
  static Ledger* const ledger = new Ledger;  // outlives every tensor
  install_counting_allocator(*ledger);
  cli::make_signals_write_errors();
  cli::CancelOnSignal signals;
  cli::Ranks ranks;
  comm::Failure failure;
  try {
    return run(o, ranks, signals);
  } catch (const Error& error) {
    failure = comm::failure_of(error);
  } catch (const std::exception& error) {
    failure = {error.what(), {}, kBugExitCode};
  }
  // Every rank's own view is for the tests; the user hears one.
  log_info("error: " + failure.what);
  if (ranks.speaks(failure)) std::cerr << concat("kinora: ", failure.what, "\n") << std::flush;  // in one piece
  ranks.end_all(failure);
  return failure.exit_code;
}
