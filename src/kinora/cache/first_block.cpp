// First-Block-Cache (ParaAttention; diffusers' FirstBlockCache): the first block always runs. Where what it adds has
// changed by no more than a threshold since the last whole computation, what the other blocks added then stands in for
// them.
#include <map>

#include "kinora/cache/branches.h"
#include "kinora/cache/change.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

class FirstBlock final : public Method {
 public:
  explicit FirstBlock(double threshold) : threshold_(threshold) {}
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  bool looks_at_data() const override { return true; }
  int64_t most_kept_values() const override { return 2; }
  int64_t most_exact_values() const override { return 1; }
  int64_t most_held_values() const override { return 1; }

  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    const auto rows = branches_of(run);
    const Streams first = run_blocks(run, blocks, 0, 1, streams);
    Tensor residual = first[0] - streams[0];
    streams.clear();
    Decision decision{.call = run.step.call, .timestep = run.step.timestep, .what = "blocks", .path = blocks.path};
    if (const auto kept = store_.find(kResidual, rows)) decision.change = relative_change(run, residual, kept->at(0));
    decision.reused = store_.has(kTail, rows) && decision.change <= threshold_;
    note(decision);
    if (decision.reused) return add(first, *store_.find(kTail, rows));
    // What is replaced makes room for the blocks.
    store_.drop(kTail, rows);
    store_.put_exact(kResidual, rows, {std::move(residual)});
    Streams out = run_blocks(run, blocks, 1, blocks.blocks, first);
    store_.put(kTail, rows, subtract(out, first));
    return out;
  }

 private:
  static constexpr const char* kResidual = "residual";
  static constexpr const char* kTail = "tail";
  double threshold_;
};

}  // namespace

std::unique_ptr<Method> make_first_block(const JsonObject& settings, const Context& context) {
  require_deterministic(context, "first-block");
  return std::make_unique<FirstBlock>(threshold_of(settings, 0.05));
}

}  // namespace kinora::cache
