// The processor's own limit: multiply-adds that never leave the registers. What a product reaches is held against it.
#include <thread>
#include <vector>

#include "kinora/cli/bench.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kinora::cli {
namespace {

constexpr int64_t kRounds = 2'000'000;
constexpr int kAccumulators =
    24;  // enough in flight to hide the latency of two units, and few enough for the registers

/// Operations a second of `loop`, which returns how many it did, on each of `threads` threads at once.
template <typename Loop>
double rate(int threads, const Loop& loop) {
  double best = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::vector<double> done(static_cast<size_t>(threads));
    const double seconds = seconds_of([&] {
      std::vector<std::thread> workers;
      for (double& count : done) workers.emplace_back([&count, &loop] { count = loop(); });
      for (std::thread& worker : workers) worker.join();
    });
    double total = 0;
    for (const double count : done) total += count;
    best = std::max(best, total / seconds);
  }
  return best;
}

/// Keeps a result alive without a store in the loop.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "m"(value) : "memory");
}

#if defined(__x86_64__)

__attribute__((target("avx512f"))) double loop_avx512() {
  __m512 sum[kAccumulators];
  for (auto& s : sum) s = _mm512_set1_ps(1.0f);
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 24
    for (int k = 0; k < kAccumulators; ++k) sum[k] = _mm512_fmadd_ps(sum[k], a, b);
  }
  keep(sum);
  return 2.0 * 16 * kAccumulators * kRounds;
}

__attribute__((target("avx2,fma"))) double loop_avx2() {
  constexpr int kFew = 12;
  __m256 sum[kFew];
  for (auto& s : sum) s = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kFew; ++k) sum[k] = _mm256_fmadd_ps(sum[k], a, b);
  }
  keep(sum);
  return 2.0 * 8 * kFew * kRounds;
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) double loop_bfloat16() {
  __m512 sum[kAccumulators];
  for (auto& s : sum) s = _mm512_set1_ps(1.0f);
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 24
    for (int k = 0; k < kAccumulators; ++k) sum[k] = _mm512_dpbf16_ps(sum[k], a, a);
  }
  keep(sum);
  return 2.0 * 32 * kAccumulators * kRounds;
}

#endif

}  // namespace

double peak_float32([[maybe_unused]] int threads) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return rate(threads, loop_avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return rate(threads, loop_avx2);
#endif
  return 0.0;
}

double peak_bfloat16([[maybe_unused]] int threads) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16")) return rate(threads, loop_bfloat16);
#endif
  return 0.0;
}

}  // namespace kinora::cli
