#include "kinora/nn/site.h"

#include "kinora/base/error.h"

namespace kinora {

Streams Policy::stack(const Run& run, const Stack& blocks, Streams streams) {
  return run_blocks(run, blocks, 0, blocks.blocks, std::move(streams));
}

Streams site(const Run& run, const SiteKey& key, c10::function_ref<Streams()> compute) {
  if (!run.policy) return compute();
  const bool reused = run.policy->reuses(key, run);
  Streams streams = reused ? run.policy->reuse(key, run) : compute();
  if (!reused && run.policy->keeps(key, run)) run.policy->keep(key, run, streams);
  run.policy->ran(key, run, reused);
  return streams;
}

bool is_unwatched(const Run& run, const SiteKey& key) {
  return !run.policy || (!run.policy->reuses(key, run) && !run.policy->keeps(key, run));
}

Tensor site_tensor(const Run& run, const SiteKey& key, c10::function_ref<Tensor()> compute) {
  if (!run.policy) return compute();
  return site(run, key, [&]() -> Streams { return {compute()}; })[0];
}

Streams stack(const Run& run, const Stack& blocks, Streams streams) {
  if (run.policy) return run.policy->stack(run, blocks, std::move(streams));
  return run_blocks(run, blocks, 0, blocks.blocks, std::move(streams));
}

Streams run_blocks(const Run& run, const Stack& blocks, int begin, int end, Streams streams) {
  for (int b = begin; b < end; ++b) {
    if (run.cancel.stop_requested()) throw CancelledError();
    streams = blocks.block(run, b, std::move(streams));
  }
  return streams;
}

}  // namespace kinora
