// Flow matching with Euler steps as diffusers' FlowMatchEulerDiscreteScheduler (Lipman et al. 2023; Esser et al. 2024): the sample at
// noise level sigma is (1 - sigma) clean + sigma noise, and the model predicts noise - clean at t = 1000 sigma.
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/diffusion/levels.h"
#include "kinora/diffusion/schedulers.h"

namespace kinora {
namespace {

using Sigmas = std::vector<double>;

/// The fraction of a Beta(0.6, 0.6) variable below x: its power series, which falls as 2^-k for x up to a half.
double beta_below(double x) {
  constexpr double a = 0.6, b = 0.6;
  if (x > 0.5) return 1 - beta_below(1 - x);
  double term = 1, sum = 0;
  for (int k = 0; k < 60; ++k) {
    sum += term / (a + k);
    term *= x * (k + 1 - b) / (k + 1);
  }
  return std::pow(x, a) * sum * std::tgamma(a + b) / (std::tgamma(a) * std::tgamma(b));
}

double beta_quantile(double share) {
  double low = 0, high = 1;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (beta_below(middle) < share ? low : high) = middle;
  }
  return (low + high) / 2;
}

/// A spacing between the first and the last level in place of the shifted one: Karras et al. 2022, even in the logarithm, or
/// by quantiles of Beta(0.6, 0.6) (Lee et al. 2024).
Sigmas respaced(const JsonObject& config, const Sigmas& sigmas) {
  const double high = sigmas.front(), low = sigmas.back();
  const int count = static_cast<int>(sigmas.size());
  Sigmas out;
  if (config.bool_or("use_karras_sigmas", false)) {
    out = karras_levels(high, low, count);
  } else if (config.bool_or("use_exponential_sigmas", false)) {
    for (const double power : linspace(std::log(high), std::log(low), count)) out.push_back(std::exp(power));
  } else if (config.bool_or("use_beta_sigmas", false)) {
    for (const double share : linspace(1, 0, count)) out.push_back(low + beta_quantile(share) * (high - low));
  }
  return out.empty() ? sigmas : out;
}

/// More steps on noisy levels: by a fixed shift, or by mu, which grows with the clip's size.
double shifted(const JsonObject& config, double sigma, const SchedulerContext& context) {
  const double shift = config.number_or("shift", 1.0);
  if (!(shift > 0)) throw DataError(concat(config.what(), ": shift ", shift), "it is above zero");
  if (!config.bool_or("use_dynamic_shifting", false)) return shift * sigma / (1 + (shift - 1) * sigma);
  if (!context.mu) throw UsageError(concat(config.what(), " shifts dynamically, by a mu that is not given"));
  const std::string type = config.string_or("time_shift_type", "exponential");
  if (type != "exponential" && type != "linear")
    throw DataError(concat(config.what(), ": time_shift_type \"", type, "\" is not known"));
  const double factor = type == "linear" ? *context.mu : std::exp(*context.mu);
  return factor / (factor + (1 / sigma - 1));
}

class FlowMatchEuler final : public Scheduler {
 public:
  FlowMatchEuler(const JsonObject& config, int steps, const SchedulerContext& context)
      : train_timesteps_(static_cast<double>(config.int_or("num_train_timesteps", 1000, 1))),
        stochastic_(config.bool_or("stochastic_sampling", false)) {
    // The size of clips that the shift was fitted to; what computes mu reads them.
    config.ignore({"base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len"});
    Sigmas sigmas = context.sigmas;
    for (const double sigma : sigmas) {
      if (!(sigma > 0 && sigma <= 1))
        throw UsageError(concat(config.what(), ": sigma ", sigma), "noise levels lie above 0 and up to 1");
    }
    if (sigmas.empty()) {
      // The reference shifts the ends of the schedule once more when it is made, unless the shift is dynamic.
      double last = 1 / train_timesteps_;
      if (!config.bool_or("use_dynamic_shifting", false)) last = shifted(config, last, context);
      sigmas = linspace(1, last, steps);
    } else if (sigmas.size() != static_cast<size_t>(steps)) {
      throw UsageError(concat(config.what(), ": ", sigmas.size(), " sigmas for ", steps, " steps"));
    }
    for (double& sigma : sigmas) sigma = shifted(config, sigma, context);
    if (const double end = config.number_or("shift_terminal", 0); end != 0) {
      if (!(end > 0 && end < 1))
        throw DataError(concat(config.what(), ": shift_terminal ", end), "it lies between 0 and 1");
      const double scale = (1 - sigmas.back()) / (1 - end);
      if (scale > 0) {  // one step alone stays at the first level, which nothing stretches
        for (double& sigma : sigmas) sigma = 1 - (1 - sigma) / scale;
      }
    }
    const bool inverts = config.bool_or("invert_sigmas", false);
    for (const double sigma : respaced(config, sigmas)) {
      sigmas_.push_back(static_cast<float>(inverts ? 1 - sigma : sigma));
      timesteps_.push_back(static_cast<float>(sigmas_.back() * train_timesteps_));
    }
    sigmas_.push_back(inverts ? 1 : 0);
  }

  std::span<const double> timesteps() const override { return timesteps_; }
  bool is_stochastic() const override { return stochastic_; }
  std::map<std::string, std::vector<double>> tables() const override { return {{"sigmas", sigmas_}}; }

  /// sample + (sigma_i+1 - sigma_i) prediction; a stochastic one goes to the clean sample and noises it anew. float32 samples, as the
  /// reference holds them.
  Tensor step(Trajectory& trajectory, const Tensor& prediction, const Tensor& sample,
              c10::function_ref<Tensor()> noise) const override {
    const auto call = static_cast<size_t>(trajectory.call);
    KINORA_ASSERT(call < timesteps_.size());
    const double sigma = sigmas_[call], next = sigmas_[call + 1];
    const Tensor from = sample.to(at::kFloat);
    const Tensor to =
        stochastic_ ? (1 - next) * (from - sigma * prediction) + next * noise() : from + (next - sigma) * prediction;
    ++trajectory.call;
    return to.to(prediction.scalar_type());
  }

  /// (1 - sigma) clean + sigma noise, sigma = t / 1000.
  Tensor add_noise(const Tensor& clean, const Tensor& noise, const Tensor& timestep) const override {
    Tensor sigma = (timestep.to(clean.device(), at::kDouble) / train_timesteps_).to(clean.scalar_type());
    while (sigma.dim() > 0 && sigma.dim() < clean.dim()) sigma = sigma.unsqueeze(-1);
    return (1 - sigma) * clean + sigma * noise;
  }

 private:
  double train_timesteps_;
  bool stochastic_;
  std::vector<double> timesteps_, sigmas_;
};

}  // namespace

std::unique_ptr<Scheduler> make_flow_match_euler(const JsonObject& config, int steps, const SchedulerContext& context) {
  return std::make_unique<FlowMatchEuler>(config, steps, context);
}

}  // namespace kinora
