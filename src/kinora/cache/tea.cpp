// TeaCache (Liu et al. 2024, arXiv 2411.19108): how much the first block's modulated input (or the time embedding) changes
// tells, through a polynomial that is fitted for each model, how much the output will. While the changes since the last
// computation add up to less than a threshold, what all blocks added then stands in for them.
#include <map>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/calibration.h"
#include "kinora/cache/change.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

struct ModelRow {
  const char* model;
  const char* probe;
  std::vector<double> coefficients;  // of the fourth power down to the first, and the constant
};

// From TeaCache's repository, one script a model.
const std::vector<ModelRow>& model_rows() {
  static const std::vector<ModelRow> rows{
      {"STDiT3", "modulated_input", {217.546007, -118.329252, 26.8662585, -0.0459364272, 0.0484426240}},
      {"LatteTransformer3DModel", "modulated_input", {-2464.34137, 308.044764, 80.7447667, -4.11385132, 0.111001402}},
      {"CogVideoXTransformer3DModel", "time_embed", {-1538.80483, 843.202495, -134.363087, 7.97131516, -0.0523162339}},
      {"WanTransformer3DModel", "time_embed", {2396.76752, -1311.10545, 201.331979, -8.29855975, 0.137887774}},
  };
  return rows;
}

class Tea final : public Method {
 public:
  Tea(double threshold, std::string probe, std::vector<double> coefficients)
      : threshold_(threshold), probe_(std::move(probe)), coefficients_(std::move(coefficients)) {}
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  bool looks_at_data() const override { return true; }
  int64_t most_kept_values() const override { return 2; }
  int64_t most_exact_values() const override { return 1; }
  int64_t most_held_values() const override { return 1; }

  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    const auto rows = branches_of(run);
    const Tensor indicator = blocks.probe(run, probe_, streams);
    if (!indicator.defined())
      throw UsageError(concat("TeaCache looks at ", probe_, ", which this model does not tell"));
    double& sum = sums_[rows];
    const auto before = store_.find(kIndicator, rows);
    Decision decision{.call = run.step.call, .timestep = run.step.timestep, .what = "blocks", .path = blocks.path};
    if (before) {
      decision.change = relative_change(run, indicator, before->at(0));
      sum += expected(decision.change);
    }
    const bool is_end = run.step.call == 0 || run.step.call == run.step.calls - 1;
    decision.reused = !is_end && store_.has(kResidual, rows) && threshold_ > 0 && sum < threshold_;
    note(decision);
    store_.put_exact(kIndicator, rows, {indicator});
    if (decision.reused) return add(streams, *store_.find(kResidual, rows));
    sum = 0;
    Streams out = run_blocks(run, blocks, 0, blocks.blocks, streams);
    store_.put(kResidual, rows, subtract(out, streams));
    return out;
  }

 private:
  static constexpr const char* kIndicator = "indicator";
  static constexpr const char* kResidual = "residual";

  double expected(double change) const {
    double value = 0;
    for (const double c : coefficients_) value = value * change + c;
    return value;
  }

  double threshold_;
  std::string probe_;
  std::vector<double> coefficients_;
  std::map<std::vector<Branch>, double> sums_;
};

}  // namespace

std::unique_ptr<Method> make_tea(const JsonObject& settings, const Context& context) {
  require_deterministic(context, "tea");
  const double threshold = threshold_of(settings, 0.1);
  std::string probe = "modulated_input";
  std::vector<double> coefficients;
  for (const ModelRow& row : model_rows()) {
    if (context.model == row.model) probe = row.probe, coefficients = row.coefficients;
  }
  if (const CalibratedRun* run = context.calibration ? context.calibration->nearest(context.steps) : nullptr;
      run && !run->coefficients.empty())
    probe = "modulated_input", coefficients = run->coefficients;
  coefficients = settings.numbers_or("coefficients", coefficients);
  probe = settings.string_or("probe", probe);
  if (coefficients.empty() || coefficients.size() > 9)
    throw UsageError(concat("TeaCache has no coefficients for ", context.model),
                     "kinora calibrate measures them; or give them: tea:coefficients=A+B+C+D+E");
  return std::make_unique<Tea>(threshold, std::move(probe), std::move(coefficients));
}

}  // namespace kinora::cache
