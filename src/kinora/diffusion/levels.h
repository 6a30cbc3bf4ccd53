// Noise levels as several schedulers have them: the share of signal that betas leave at each training step, and spacings
// between two levels.
#pragma once

#include <string>
#include <vector>

#include "kinora/base/json.h"

namespace kinora {

/// What families of schedulers take where a config is silent.
struct SignalDefaults {
  double beta_start = 0.0001, beta_end = 0.02;
  const char* beta_schedule = "linear";
  double snr_shift_scale = 0;  ///< 0: the family has no shift
};

/// a(t) of each of `count` training steps: sample = sqrt(a) clean + sqrt(1 - a) noise. Zero terminal SNR moves and scales
/// sqrt(a) so that the last is 0 (Lin et al. 2024, algorithm 1). Throws DataError for betas that no schedule follows from.
std::vector<double> signal_of(const JsonObject& config, const SignalDefaults& defaults, int64_t count);

/// From `first` to `last`, both among them.
std::vector<double> linspace(double first, double last, int count);

/// Karras et al. 2022, with rho = 7.
std::vector<double> karras_levels(double high, double low, int count);

/// For a word of a config that has no meaning. Throws DataError.
[[noreturn]] void refuse_word(const JsonObject& config, const char* key, const std::string& value);

}  // namespace kinora
