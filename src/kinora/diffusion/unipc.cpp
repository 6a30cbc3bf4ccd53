// UniPC (Zhao et al. 2023, arXiv 2302.04867) as diffusers' UniPCMultistepScheduler, which Wan's folders name: each step first
// corrects the sample that it was given by the prediction made there, then goes on by a polynomial through the last
// predictions. What is followed is the clean sample, or the noise, against lambda = ln(alpha / sigma).
#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/diffusion/levels.h"
#include "kinora/diffusion/schedulers.h"

namespace kinora {
namespace {

using Numbers = std::vector<double>;

enum class Prediction { epsilon, sample, v, flow };

struct Level {  // sample = alpha clean + sigma noise
  double alpha, sigma;
  double lambda() const { return std::log(alpha) - std::log(sigma); }
};

/// Noise levels of a schedule, one more than timesteps, and the times that the model is told.
struct Levels {
  Numbers sigmas, times;
};

Levels flow_levels(const JsonObject& config, int64_t trained, int steps, const SchedulerContext& context) {
  Levels levels;
  levels.sigmas = context.sigmas;
  if (levels.sigmas.empty()) {
    levels.sigmas = linspace(1, 1 / static_cast<double>(trained), steps + 1);
    levels.sigmas.pop_back();
  } else if (levels.sigmas.size() != static_cast<size_t>(steps)) {
    throw UsageError(concat(config.what(), ": ", levels.sigmas.size(), " sigmas for ", steps, " steps"));
  }
  double shift = config.number_or("flow_shift", 1.0);
  if (config.bool_or("use_dynamic_shifting", false)) {
    if (!context.mu) throw UsageError(concat(config.what(), " shifts dynamically, by a mu that is not given"));
    if (const std::string type = config.string_or("time_shift_type", "exponential"); type != "exponential")
      refuse_word(config, "time_shift_type", type);
    shift = std::exp(*context.mu);
  }
  constexpr double kMostShift = 1000;  // beyond it no level is left below 1
  if (!(shift > 0 && shift <= kMostShift))
    throw DataError(concat(config.what(), ": flow_shift ", shift), concat("it is above 0 and at most ", kMostShift));
  for (double& sigma : levels.sigmas) {
    if (!(sigma > 0 && sigma <= 1))
      throw UsageError(concat(config.what(), ": sigma ", sigma), "noise levels lie above 0 and up to 1");
    sigma = shift * sigma / (1 + (shift - 1) * sigma);
  }
  constexpr double kAside = 1e-6;  // at 1 lambda is not finite
  if (levels.sigmas.front() > 1 - kAside) levels.sigmas.front() -= kAside;
  for (const double sigma : levels.sigmas) levels.times.push_back(std::trunc(sigma * static_cast<double>(trained)));
  return levels;
}

Numbers spaced_times(const JsonObject& config, int64_t trained, int steps) {
  const std::string spacing = config.string_or("timestep_spacing", "linspace");
  const int64_t offset = config.int_or("steps_offset", 0, 0, trained - 1);
  Numbers times;
  for (int i = 0; i < steps; ++i) {
    const double n = steps, at = i, total = static_cast<double>(trained);
    if (spacing == "linspace")
      times.push_back(std::nearbyint((total - 1) * (n - at) / n));
    else if (spacing == "leading")
      times.push_back(static_cast<double>((steps - i) * (trained / (steps + 1)) + offset));
    else if (spacing == "trailing")
      times.push_back(std::nearbyint(total - at * (total / n)) - 1);
    else
      refuse_word(config, "timestep_spacing", spacing);
  }
  if (times.front() >= static_cast<double>(trained))
    throw DataError(concat(config.what(), ": steps_offset ", offset, " leaves the schedule"));
  return times;
}

/// The time at which a schedule has a level, between its own by their logarithm.
double time_at(const Numbers& sigmas, double level) {
  const auto above = std::upper_bound(sigmas.begin(), sigmas.end(), level);
  if (above == sigmas.begin()) return 0;
  if (above == sigmas.end()) return static_cast<double>(sigmas.size() - 1);
  const double low = std::log(*(above - 1)), high = std::log(*above);
  return static_cast<double>(above - 1 - sigmas.begin()) + (std::log(level) - low) / (high - low);
}

/// Levels sqrt((1 - a) / a) of a schedule of betas.
Levels beta_levels(const JsonObject& config, int64_t trained, int steps) {
  Numbers signal = signal_of(config, {}, trained);
  if (signal.back() <= 0) signal.back() = std::exp2(-24);  // zero terminal SNR has no level there
  Numbers all;
  for (const double a : signal) all.push_back(std::sqrt((1 - a) / a));
  Levels levels;
  levels.times = spaced_times(config, trained, steps);
  if (config.bool_or("use_karras_sigmas", false)) {
    levels.sigmas = karras_levels(all.back(), all.front(), steps);
    std::transform(levels.sigmas.begin(), levels.sigmas.end(), levels.times.begin(),
                   [&](double sigma) { return std::nearbyint(time_at(all, sigma)); });
  } else {
    for (const double time : levels.times) levels.sigmas.push_back(all[static_cast<size_t>(time)]);
  }
  if (config.string_or("final_sigmas_type", "zero") == "sigma_min") levels.sigmas.push_back(all.front());
  return levels;
}

/// Weights of what the polynomial adds: `nodes` are the places of the other predictions, in units of the step hh; `unit` is
/// B(h). Solves sum_k weight_k node_k^(i - 1) = b_i for i = 1 .. nodes.
Numbers weights_of(const Numbers& nodes, double hh, double unit) {
  const auto order = static_cast<int64_t>(nodes.size());
  const Tensor r = at::empty({order, order}, at::kDouble), b = at::empty({order}, at::kDouble);
  double phi = std::expm1(hh) / hh - 1, factorial = 1;
  for (int64_t i = 0; i < order; ++i) {
    for (int64_t k = 0; k < order; ++k) r[i][k] = std::pow(nodes[static_cast<size_t>(k)], static_cast<double>(i));
    b[i] = phi * factorial / unit;
    factorial *= static_cast<double>(i) + 2;
    phi = phi / hh - 1 / factorial;
  }
  const Tensor weights = at::linalg_solve(r, b);
  return {weights.data_ptr<double>(), weights.data_ptr<double>() + order};
}

class UniPc final : public Scheduler {
 public:
  UniPc(const JsonObject& config, int steps, const SchedulerContext& context)
      : is_flow_(config.bool_or("use_flow_sigmas", false)),
        follows_clean_(config.bool_or("predict_x0", true)),
        lowers_order_(config.bool_or("lower_order_final", true)),
        order_(static_cast<int>(config.int_or("solver_order", 2, 1, 4))),
        uncorrected_(config.ints_or("disable_corrector", {})) {
    const auto trained = config.int_or("num_train_timesteps", 1000, 2, 1 << 20);
    if (steps > trained)
      throw UsageError(concat(config.what(), ": ", steps, " steps"), concat("it has ", trained, " times in all"));
    const std::string solver = config.string_or("solver_type", "bh2");
    if (solver != "bh1" && solver != "bh2") refuse_word(config, "solver_type", solver);
    is_bh1_ = solver == "bh1";
    prediction_ = prediction_of(config);
    for (const char* key : {"thresholding", "use_exponential_sigmas", "use_beta_sigmas"}) {
      if (config.bool_or(key, false)) throw DataError(concat(config.what(), ": ", key, " is not known here"));
    }
    if (is_flow_ && config.bool_or("use_karras_sigmas", false))
      throw DataError(concat(config.what(), ": use_karras_sigmas does not go with use_flow_sigmas"));
    if (config.has("solver_p")) throw DataError(concat(config.what(), ": solver_p is not known here"));
    const std::string last = config.string_or("final_sigmas_type", "zero");
    if (last != "zero" && last != "sigma_min") refuse_word(config, "final_sigmas_type", last);
    Levels levels = is_flow_ ? flow_levels(config, trained, steps, context) : beta_levels(config, trained, steps);
    if (levels.sigmas.size() == levels.times.size()) levels.sigmas.push_back(last == "zero" ? 0 : levels.sigmas.back());
    times_ = std::move(levels.times), sigmas_ = std::move(levels.sigmas);
    for (double& sigma : sigmas_) sigma = static_cast<float>(sigma);  // as the reference holds them
    // Keys of the other kind of levels, and limits of what is refused above.
    config.ignore({"flow_shift", "use_dynamic_shifting", "time_shift_type", "timestep_spacing", "steps_offset",
                   "use_karras_sigmas", "trained_betas", "beta_start", "beta_end", "beta_schedule",
                   "rescale_betas_zero_snr", "dynamic_thresholding_ratio", "sample_max_value"});
  }

  std::span<const double> timesteps() const override { return times_; }
  std::map<std::string, Numbers> tables() const override { return {{"sigmas", sigmas_}}; }

  /// history: the corrected sample of the call before, then its prediction and those before it, the newest first.
  Tensor step(Trajectory& trajectory, const Tensor& prediction, const Tensor& sample,
              c10::function_ref<Tensor()>) const override {
    const int call = trajectory.call;
    KINORA_ASSERT(call < static_cast<int>(times_.size()));
    std::vector<Tensor>& history = trajectory.history;
    const Tensor now = follows_clean_ ? clean_estimate(prediction, sample, call) : noise_of(prediction, sample, call);
    Tensor corrected = sample;
    const bool is_corrected = std::find(uncorrected_.begin(), uncorrected_.end(), call - 1) == uncorrected_.end();
    if (call > 0 && is_corrected)
      corrected = between(history[0], call - 1, std::span(history).subspan(1), order_at(call - 1), now);
    std::vector<Tensor> next{corrected, now};
    for (size_t i = 1; i < history.size() && static_cast<int>(next.size()) <= order_; ++i) next.push_back(history[i]);
    history = std::move(next);
    const Tensor to = between(corrected, call, std::span(history).subspan(1), order_at(call), {});
    ++trajectory.call;
    return to.to(sample.scalar_type());
  }

  Tensor clean_estimate(const Tensor& prediction, const Tensor& sample, int call) const override {
    const auto [alpha, sigma] = level(call);
    switch (prediction_) {
      case Prediction::epsilon: return (sample - sigma * prediction) / alpha;
      case Prediction::sample: return prediction;
      case Prediction::v: return alpha * sample - sigma * prediction;
      case Prediction::flow: return sample - sigma * prediction;
    }
    return {};
  }

  /// By the schedule's level whose time is nearest.
  Tensor add_noise(const Tensor& clean, const Tensor& noise, const Tensor& timestep) const override {
    const Tensor times = at::tensor(at::ArrayRef<double>(times_), at::kDouble);
    const Tensor wanted = timestep.to(at::kCPU, at::kDouble);
    const Tensor nearest = (times - wanted.unsqueeze(-1)).abs().argmin(-1);
    Tensor sigma = at::tensor(at::ArrayRef<double>(sigmas_), at::kDouble).index({nearest});
    while (sigma.dim() > 0 && sigma.dim() < clean.dim()) sigma = sigma.unsqueeze(-1);
    const Tensor alpha = is_flow_ ? 1 - sigma : (sigma.square() + 1).rsqrt();
    const auto options = clean.options();
    return alpha.to(options) * clean + (is_flow_ ? sigma : sigma * alpha).to(options) * noise;
  }

 private:
  Prediction prediction_of(const JsonObject& config) const {
    const std::string name = config.string_or("prediction_type", "epsilon");
    if (name == "epsilon") return Prediction::epsilon;
    if (name == "sample") return Prediction::sample;
    if (name == "v_prediction") return Prediction::v;
    if (name != "flow_prediction") refuse_word(config, "prediction_type", name);
    if (!is_flow_ || !follows_clean_)
      throw DataError(concat(config.what(), ": flow_prediction goes with use_flow_sigmas and predict_x0"));
    return Prediction::flow;
  }

  Level level(int call) const {
    const double sigma = sigmas_[static_cast<size_t>(call)];
    if (is_flow_) return {1 - sigma, sigma};
    const double alpha = 1 / std::sqrt(sigma * sigma + 1);
    return {alpha, sigma * alpha};
  }

  Tensor noise_of(const Tensor& prediction, const Tensor& sample, int call) const {
    const auto [alpha, sigma] = level(call);
    switch (prediction_) {
      case Prediction::sample: return (sample - alpha * prediction) / sigma;
      case Prediction::v: return alpha * prediction + sigma * sample;
      default: return prediction;
    }
  }

  /// Predictions that the step from `call` uses.
  int order_at(int call) const {
    const int most = lowers_order_ ? std::min(order_, static_cast<int>(times_.size()) - call) : order_;
    return std::min(most, call + 1);
  }

  /// From `call` to the level after it. predictions: at `call` and before, the newest first; `there`: the prediction at the
  /// level after it, defined where the step corrects one that was already made.
  Tensor between(const Tensor& sample, int call, std::span<const Tensor> predictions, int order,
                 const Tensor& there) const {
    const Level from = level(call), to = level(call + 1);
    const Tensor& first = predictions[0];
    // Without noise there is nothing left to follow: the limit of the rule below.
    if (to.sigma == 0) return follows_clean_ ? first : (sample - from.sigma * first) / from.alpha;
    const double h = to.lambda() - from.lambda(), hh = follows_clean_ ? -h : h, unit = is_bh1_ ? hh : std::expm1(hh);
    Numbers nodes;
    std::vector<Tensor> slopes;
    for (int k = 1; k < order; ++k) {
      nodes.push_back((level(call - k).lambda() - from.lambda()) / h);
      slopes.push_back((predictions[static_cast<size_t>(k)] - first) / nodes.back());
    }
    if (there.defined()) nodes.push_back(1), slopes.push_back(there - first);
    // One node: the reference takes half of it, not what the system gives.
    const Numbers weights = nodes.size() == 1 ? Numbers{0.5} : nodes.empty() ? Numbers{} : weights_of(nodes, hh, unit);
    const double keeps = follows_clean_ ? to.sigma / from.sigma : to.alpha / from.alpha,
                 takes = follows_clean_ ? to.alpha : to.sigma;
    Tensor out = keeps * sample - takes * std::expm1(hh) * first;
    for (size_t k = 0; k < slopes.size(); ++k) out = out - takes * unit * weights[k] * slopes[k];
    return out;
  }

  bool is_flow_, follows_clean_, lowers_order_, is_bh1_ = false;
  int order_;
  Numbers sigmas_, times_;
  std::vector<int64_t> uncorrected_;  // calls whose step is not corrected afterwards
  Prediction prediction_ = Prediction::epsilon;
};

}  // namespace

std::unique_ptr<Scheduler> make_unipc(const JsonObject& config, int steps, const SchedulerContext& context) {
  return std::make_unique<UniPc>(config, steps, context);
}

}  // namespace kinora
