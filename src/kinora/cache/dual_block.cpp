// DBCache (cache-dit): the first F blocks always run and tell by how much they changed whether the middle is computed; the
// last B blocks always run, on what the middle gives or gave.
#include <algorithm>
#include <map>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/change.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

struct DualBlockSettings {
  double threshold = 0.08;
  int first = 8, last = 0;   ///< blocks
  int64_t warmup = 8;        ///< calls that are always computed
  int64_t most_cached = -1;  ///< calls that reuse, in all; below 0: any number
  int64_t most_in_a_row = -1;
};

class DualBlock final : public Method {
 public:
  explicit DualBlock(DualBlockSettings settings) : settings_(settings) {}
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  bool looks_at_data() const override { return true; }
  int64_t most_kept_values() const override { return 2; }
  int64_t most_exact_values() const override { return 1; }
  int64_t most_held_values() const override { return 1; }

  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    const int first = std::min(settings_.first, blocks.blocks), last = std::min(settings_.last, blocks.blocks - first);
    const int middle_end = blocks.blocks - last;
    const auto rows = branches_of(run);
    Streams head = run_blocks(run, blocks, 0, first, streams);
    Tensor residual = head[0] - streams[0];
    streams.clear();
    Count& count = counts_[rows];
    Decision decision{.call = run.step.call, .timestep = run.step.timestep, .what = "blocks", .path = blocks.path};
    if (const auto kept = store_.find(kResidual, rows)) decision.change = relative_change(run, residual, kept->at(0));
    const auto below = [](int64_t value, int64_t most) { return most < 0 || value < most; };
    decision.reused = store_.has(kMiddle, rows) && run.step.call >= settings_.warmup &&
                      below(count.cached, settings_.most_cached) && below(count.in_a_row, settings_.most_in_a_row) &&
                      decision.change < settings_.threshold;
    note(decision);
    Streams middle;
    if (decision.reused) {
      middle = add(head, *store_.find(kMiddle, rows));
      ++count.cached, ++count.in_a_row;
    } else {
      // What is replaced makes room for the blocks.
      store_.drop(kMiddle, rows);
      store_.put_exact(kResidual, rows, {std::move(residual)});
      middle = run_blocks(run, blocks, first, middle_end, head);
      store_.put(kMiddle, rows, subtract(middle, head));
      count.in_a_row = 0;
    }
    residual.reset(), head.clear();
    return run_blocks(run, blocks, middle_end, blocks.blocks, std::move(middle));
  }

 private:
  static constexpr const char* kResidual = "residual";
  static constexpr const char* kMiddle = "middle";
  struct Count {
    int64_t cached = 0, in_a_row = 0;
  };
  DualBlockSettings settings_;
  std::map<std::vector<Branch>, Count> counts_;
};

}  // namespace

std::unique_ptr<Method> make_dual_block(const JsonObject& settings, const Context& context) {
  require_deterministic(context, "dual-block");
  constexpr int64_t kMost = 10000;
  DualBlockSettings s;
  // The paper's eight are of models with fifty blocks or so.
  if (const int64_t blocks = context.sites_of(Kind::mlp); blocks > 0)
    s.first = static_cast<int>(std::clamp<int64_t>(blocks / 4, 1, s.first));
  s.threshold = threshold_of(settings, s.threshold);
  s.first = static_cast<int>(settings.int_or("first", s.first, 1, kMost));
  s.last = static_cast<int>(settings.int_or("last", s.last, 0, kMost));
  s.warmup = settings.int_or("warmup", s.warmup, 0, kMost);
  s.most_cached = settings.int_or("most", s.most_cached, -1, kMost);
  s.most_in_a_row = settings.int_or("in_a_row", s.most_in_a_row, -1, kMost);
  return std::make_unique<DualBlock>(s);
}

}  // namespace kinora::cache
