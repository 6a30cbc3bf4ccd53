#include "kinora/nn/site.h"

#include "kinora/base/error.h"

namespace kinora {

Streams Policy::stack(const Run& run, const Stack& blocks, Streams streams) {
  return run_blocks(run, blocks, 0, blocks.blocks, std::move(streams));
}

Streams site(const Run& run, const SiteKey& key, c10::function_ref<Streams()> compute) {
  if (!run.policy) return compute();
  if (run.policy->reuses(key, run)) return run.policy->reuse(key, run);
  Streams streams = compute();
  if (run.policy->keeps(key, run)) run.policy->keep(key, run, streams);
  return streams;
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
