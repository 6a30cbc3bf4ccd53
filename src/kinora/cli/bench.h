// kinora bench: measurements as JSON lines. Times are the best of several, taken in turn with what they are compared to.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kinora/cli/command.h"

namespace kinora::cli {

void add_bench_ops(CLI::App& bench, Action& action);  ///< op
void add_bench_models(CLI::App& bench,
                      Action& action);  ///< dit, cache, parallel, layouts, cogvideox, latte, wan, t5, autoencoder, vae
void add_bench_builtin(CLI::App& bench, Action& action);  ///< builtin
void add_bench_comm(CLI::App& bench, Action& action);     ///< comm
void add_bench_chunk(CLI::App& bench, Action& action);    ///< chunk
void add_bench_offload(CLI::App& bench, Action& action);  ///< offload

/// Multiply-adds (each 2) a second that `threads` threads reach in registers alone. 0 where the processor has no such instruction.
double peak_float32(int threads);
double peak_bfloat16(int threads);

/// Throws UsageError unless these are three sizes of 1 .. most.
void check_three_sizes(const char* option, const std::vector<int64_t>& sizes, int64_t most);

template <typename Work>
double seconds_of(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The least time of one call, of `times` series that last at least `least_s` each.
template <typename Work>
double best_seconds(const Work& work, int64_t times, double least_s = 0.05) {
  const double once = seconds_of(work);  // also warms up
  const auto calls = static_cast<int64_t>(std::max(1.0, least_s / std::max(once, 1e-7)));
  double best = once;
  for (int64_t i = 0; i < times; ++i) {
    best = std::min(best, seconds_of([&] {
                            for (int64_t c = 0; c < calls; ++c) work();
                          }) / static_cast<double>(calls));
  }
  return best;
}

}  // namespace kinora::cli
