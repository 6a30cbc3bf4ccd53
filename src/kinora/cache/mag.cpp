// MagCache (Ma et al. 2025, arXiv 2506.09045): what all blocks add shrinks from step to step by a ratio that hardly depends
// on the prompt. The ratios are measured once for a model; while their product has not moved far from one, what the
// blocks added last stands in for them.
#include <cmath>
#include <map>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/calibration.h"
#include "kinora/cache/change.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

struct MagSettings {
  double threshold = 0.06;
  int64_t most_skips = 3;
  double retention = 0.2;  // share of the calls, from the first, that are always computed
  std::vector<double> ratios;
  bool calibrates = false;  // computes everything and measures the ratios instead
};

class Mag final : public Method {
 public:
  explicit Mag(MagSettings settings) : settings_(std::move(settings)) {}
  bool looks_at_data() const override { return settings_.calibrates; }
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  int64_t most_kept_values() const override { return 1; }
  int64_t most_held_values() const override { return 1; }

  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    if (settings_.calibrates) return measured(run, blocks, streams);
    const auto rows = branches_of(run);
    Drift& drift = drifts_[rows];
    Decision decision{.call = run.step.call, .timestep = run.step.timestep, .what = "blocks", .path = blocks.path};
    const auto kept_calls = static_cast<int>(settings_.retention * run.step.calls + 0.5);
    if (run.step.call >= kept_calls) {
      drift.ratio *= ratio_at(run.step);
      drift.error += std::abs(1 - drift.ratio);
      ++drift.skips;
      decision.change = drift.error;
      decision.reused =
          store_.has(kResidual, rows) && drift.error <= settings_.threshold && drift.skips <= settings_.most_skips;
    }
    note(decision);
    if (decision.reused) return add(streams, *store_.find(kResidual, rows));
    drift = {};
    Streams out = run_blocks(run, blocks, 0, blocks.blocks, streams);
    store_.put(kResidual, rows, subtract(out, streams));
    return out;
  }

 private:
  static constexpr const char* kResidual = "residual";

  struct Drift {  // since the last computation
    double ratio = 1, error = 0;
    int64_t skips = 0;
  };

  Streams measured(const Run& run, const Stack& blocks, const Streams& streams) {
    const auto rows = branches_of(run);
    const auto before = store_.find(kResidual, rows);
    Streams out = run_blocks(run, blocks, 0, blocks.blocks, streams), residual = subtract(out, streams);
    note({.call = run.step.call,
          .timestep = run.step.timestep,
          .what = "blocks",
          .path = blocks.path,
          .change = before ? mean_ratio(run, residual[0], before->at(0)) : 1});
    store_.put(kResidual, rows, std::move(residual));
    return out;
  }

  /// Ratios of another number of calls are taken from the nearest.
  double ratio_at(const Step& step) const {
    const auto length = static_cast<double>(settings_.ratios.size());
    if (step.calls < 2 || static_cast<int>(length) == step.calls)
      return settings_.ratios[static_cast<size_t>(step.call)];
    const double at = std::nearbyint(step.call * (length - 1) / (step.calls - 1));
    return settings_.ratios[static_cast<size_t>(at)];
  }

  MagSettings settings_;
  std::map<std::vector<Branch>, Drift> drifts_;
};

}  // namespace

std::unique_ptr<Method> make_mag(const JsonObject& settings, const Context& context) {
  constexpr int64_t kMostSteps = 10000;
  MagSettings s;
  s.threshold = threshold_of(settings, s.threshold);
  s.most_skips = settings.int_or("skips", s.most_skips, 0, kMostSteps);
  s.retention = settings.number_or("retention", s.retention);
  // In float32, as the reference holds them: thresholds are met to the last bit.
  const CalibratedRun* measured = context.calibration ? context.calibration->nearest(context.steps) : nullptr;
  const auto known = measured ? measured->ratios : std::vector<double>();
  for (const double ratio : settings.numbers_or("ratios", known)) s.ratios.push_back(static_cast<float>(ratio));
  if (!(s.retention >= 0 && s.retention <= 1)) throw UsageError("MagCache: retention must be 0 to 1");
  s.calibrates = settings.bool_or("calibrate", false);
  if (s.ratios.empty() && !s.calibrates)
    throw UsageError(concat("MagCache has no ratios for ", context.model),
                     "kinora calibrate measures them; or give them: mag:ratios=A+B+C");
  return std::make_unique<Mag>(std::move(s));
}

}  // namespace kinora::cache
