#include "kinora/diffusion/levels.h"

#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"

namespace kinora {
namespace {

std::vector<double> betas_of(const JsonObject& config, const SignalDefaults& defaults, int64_t count) {
  std::vector<double> betas = config.numbers_or("trained_betas", {});
  if (!betas.empty()) return betas;
  const double first = config.number_or("beta_start", defaults.beta_start),
               last = config.number_or("beta_end", defaults.beta_end);
  const std::string name = config.string_or("beta_schedule", defaults.beta_schedule);
  const auto cosine = [](double t) { return std::pow(std::cos((t + 0.008) / 1.008 * M_PI / 2), 2); };
  const auto total = static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) {
    const double at = static_cast<double>(i), share = count == 1 ? 0 : at / (total - 1);
    if (name == "linear") {
      betas.push_back(first + (last - first) * share);
    } else if (name == "scaled_linear") {
      betas.push_back(std::pow(std::sqrt(first) + (std::sqrt(last) - std::sqrt(first)) * share, 2));
    } else if (name == "squaredcos_cap_v2") {
      betas.push_back(std::min(1 - cosine((at + 1) / total) / cosine(at / total), 0.999));
    } else {
      refuse_word(config, "beta_schedule", name);
    }
  }
  return betas;
}

}  // namespace

std::vector<double> signal_of(const JsonObject& config, const SignalDefaults& defaults, int64_t count) {
  std::vector<double> a;
  double left = 1;
  for (const double beta : betas_of(config, defaults, count)) {
    if (!(beta > 0 && beta < 1)) throw DataError(concat(config.what(), ": beta ", beta), "betas lie between 0 and 1");
    a.push_back(left *= 1 - beta);
  }
  if (static_cast<int64_t>(a.size()) != count)
    throw DataError(concat(config.what(), ": ", a.size(), " trained_betas"), concat("it has ", count, " times in all"));
  if (defaults.snr_shift_scale > 0) {
    const double scale = config.number_or("snr_shift_scale", defaults.snr_shift_scale);
    if (!(scale > 0)) throw DataError(concat(config.what(), ": snr_shift_scale ", scale), "it is above zero");
    for (double& each : a) each /= scale + (1 - scale) * each;
  }
  if (config.bool_or("rescale_betas_zero_snr", false)) {
    const double first = std::sqrt(a.front()), last = std::sqrt(a.back());
    for (double& each : a) each = std::pow((std::sqrt(each) - last) * first / (first - last), 2);
  }
  return a;
}

std::vector<double> linspace(double first, double last, int count) {
  std::vector<double> out;
  for (int i = 0; i < count; ++i) out.push_back(count == 1 ? first : first + (last - first) * i / (count - 1));
  return out;
}

std::vector<double> karras_levels(double high, double low, int count) {
  constexpr double kRho = 7;
  std::vector<double> levels = linspace(std::pow(high, 1 / kRho), std::pow(low, 1 / kRho), count);
  for (double& level : levels) level = std::pow(level, kRho);
  return levels;
}

void refuse_word(const JsonObject& config, const char* key, const std::string& value) {
  throw DataError(concat(config.what(), ": ", key, " \"", value, "\" is not known"));
}

}  // namespace kinora
