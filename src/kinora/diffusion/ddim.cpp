// DDIM (Song et al. 2021, eq. 12 and 16) as diffusers' DDIMScheduler, and CogVideoX's variant of it, which shifts the signal to noise
// ratio (Esser et al. 2024) and has no noise of its own. a(t) is the share of signal left at time t: sample = sqrt(a) clean +
// sqrt(1 - a) noise.
#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/diffusion/levels.h"
#include "kinora/diffusion/schedulers.h"

namespace kinora {
namespace {

using Numbers = std::vector<double>;

enum class Prediction { epsilon, sample, v };

Prediction prediction_of(const JsonObject& config) {
  const std::string name = config.string_or("prediction_type", "epsilon");
  if (name == "epsilon") return Prediction::epsilon;
  if (name == "sample") return Prediction::sample;
  if (name == "v_prediction") return Prediction::v;
  refuse_word(config, "prediction_type", name);
}

/// The families differ in what they take where a config is silent.
constexpr SignalDefaults kDdim{}, kCogVideoX{0.00085, 0.012, "scaled_linear", 3.0};

Numbers times_of(const JsonObject& config, int64_t trained, int steps) {
  const std::string spacing = config.string_or("timestep_spacing", "leading");
  const int64_t offset = config.int_or("steps_offset", 0, 0, trained - 1);
  Numbers times;
  for (int i = 0; i < steps; ++i) {
    const double n = steps, at = i, total = static_cast<double>(trained);
    if (spacing == "leading") {
      times.push_back(static_cast<double>((steps - 1 - i) * (trained / steps) + offset));
    } else if (spacing == "trailing") {
      times.push_back(std::nearbyint(total - at * (total / n)) - 1);
    } else if (spacing == "linspace") {
      times.push_back(steps == 1 ? 0 : std::nearbyint((total - 1) / (n - 1) * (n - 1 - at)));
    } else {
      refuse_word(config, "timestep_spacing", spacing);
    }
  }
  if (times.front() >= static_cast<double>(trained))
    throw DataError(concat(config.what(), ": steps_offset ", offset, " leaves the schedule"));
  return times;
}

class Ddim final : public Scheduler {
 public:
  Ddim(const JsonObject& config, int steps, const SignalDefaults& family)
      : trained_(config.int_or("num_train_timesteps", 1000, 2, 1 << 20)),
        prediction_(prediction_of(config)),
        eta_(config.number_or("eta", 0)) {
    if (steps > trained_)
      throw UsageError(concat(config.what(), ": ", steps, " steps"), concat("it has ", trained_, " times in all"));
    if (!(eta_ >= 0 && eta_ <= 1)) throw DataError(concat(config.what(), ": eta ", eta_), "it lies between 0 and 1");
    stride_ = trained_ / steps;
    signal_ = signal_of(config, family, trained_);
    times_ = times_of(config, trained_, steps);
    if (prediction_ == Prediction::epsilon && signal_[static_cast<int64_t>(times_[0])] <= 0) {
      throw DataError(concat(config.what(), ": epsilon says nothing of the sample at time ", times_[0],
                             ", where no signal is left"),
                      "zero terminal SNR goes with v_prediction");
    }
    last_signal_ = config.bool_or("set_alpha_to_one", true) ? 1 : signal_[0];
    const bool clips = config.bool_or("clip_sample", true);
    const double range = config.number_or("clip_sample_range", 1.0);
    config.ignore({"thresholding", "dynamic_thresholding_ratio", "sample_max_value"});
    if (family.snr_shift_scale > 0) return;  // CogVideoX's reads these keys and clips nothing
    if (config.bool_or("thresholding", false)) {
      threshold_ = {config.number_or("dynamic_thresholding_ratio", 0.995), config.number_or("sample_max_value", 1.0)};
    } else if (clips) {
      clip_ = range;
    }
  }

  std::span<const double> timesteps() const override { return times_; }
  bool is_stochastic() const override { return eta_ > 0; }
  std::map<std::string, Numbers> tables() const override { return {{"alphas_cumprod", signal_}}; }

  Tensor step(Trajectory& trajectory, const Tensor& prediction, const Tensor& sample,
              c10::function_ref<Tensor()> noise) const override {
    const auto call = static_cast<size_t>(trajectory.call);
    KINORA_ASSERT(call < times_.size());
    const auto now = static_cast<int64_t>(times_[call]), next = now - stride_;
    const double a = signal_[now], b = 1 - a, a_next = next >= 0 ? signal_[next] : last_signal_;
    Tensor clean, epsilon;
    switch (prediction_) {
      case Prediction::epsilon:
        clean = (sample - std::sqrt(b) * prediction) / std::sqrt(a);
        epsilon = prediction;
        break;
      case Prediction::sample:
        clean = prediction;
        epsilon = (sample - std::sqrt(a) * prediction) / std::sqrt(b);
        break;
      case Prediction::v:
        clean = std::sqrt(a) * sample - std::sqrt(b) * prediction;
        epsilon = std::sqrt(a) * prediction + std::sqrt(b) * sample;
        break;
    }
    const double deviation = eta_ > 0 ? eta_ * std::sqrt((1 - a_next) / b * (1 - a / a_next)) : 0;
    Tensor to =
        std::sqrt(a_next) * limited(clean) + std::sqrt(std::max(0.0, 1 - a_next - deviation * deviation)) * epsilon;
    if (eta_ > 0) to = to + deviation * noise();
    ++trajectory.call;
    return to;
  }

  Tensor add_noise(const Tensor& clean, const Tensor& noise, const Tensor& timestep) const override {
    Tensor a = at::tensor(signal_, at::kDouble).to(clean.device()).index({timestep.to(clean.device(), at::kLong)});
    while (a.dim() > 0 && a.dim() < clean.dim()) a = a.unsqueeze(-1);
    return a.sqrt().to(clean.scalar_type()) * clean + (1 - a).sqrt().to(clean.scalar_type()) * noise;
  }

 private:
  struct Threshold {
    double share, highest;
  };

  /// The predicted clean sample within +-range, or divided by a quantile of its absolute values (Saharia et al. 2022).
  Tensor limited(const Tensor& clean) const {
    if (clip_) return clean.clamp(-*clip_, *clip_);
    if (!threshold_) return clean;
    const Tensor rows = clean.flatten(1);
    const Tensor limit = at::quantile(rows.abs(), threshold_->share, 1, true).clamp(1.0, threshold_->highest);
    return (at::maximum(at::minimum(rows, limit), -limit) / limit).view_as(clean);
  }

  int64_t trained_, stride_ = 1;
  Prediction prediction_;
  double eta_, last_signal_ = 1;
  std::optional<double> clip_;
  std::optional<Threshold> threshold_;
  Numbers signal_, times_;
};

}  // namespace

std::unique_ptr<Scheduler> make_ddim(const JsonObject& config, int steps, const SchedulerContext&) {
  return std::make_unique<Ddim>(config, steps, kDdim);
}

std::unique_ptr<Scheduler> make_cogvideox_ddim(const JsonObject& config, int steps, const SchedulerContext&) {
  return std::make_unique<Ddim>(config, steps, kCogVideoX);
}

}  // namespace kinora
