#include "kinora/cache/choice.h"

#include <iomanip>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/cache/registry.h"

namespace kinora::cache {
namespace {

constexpr std::string_view kName = "auto";
constexpr double kUsualQuality = 30;

std::string short_text(double value) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << value;
  return out.str();
}

/// The element with the most `value` among those whose `measure` is at least `least`.
Measured best(const std::vector<Measured>& all, double Measured::*measure, double least, double Measured::*value,
              const char* wish, const char* unit) {
  const Measured *found = nullptr, *nearest = nullptr;
  for (const Measured& m : all) {
    if (!nearest || m.*measure > nearest->*measure) nearest = &m;
    if (m.*measure >= least && (!found || m.*value > found->*value)) found = &m;
  }
  if (found) return *found;
  throw UsageError(
      concat("no cache reaches a ", wish, " of ", short_text(least), unit),
      concat("the most that was measured is ", short_text(nearest->*measure), unit, ", with --cache ", nearest->cache));
}

}  // namespace

bool is_auto(std::string_view text) { return text == kName || text.starts_with("auto:"); }

Measured choose(std::string_view text, const Context& context) {
  const Json settings = parse_settings(text.size() > kName.size() ? text.substr(kName.size() + 1) : std::string_view());
  const JsonObject object(settings, "cache auto");
  try {
    const bool by_speed = object.has("speed");
    if (by_speed && object.has("quality")) throw UsageError("cache auto takes a quality or a speed", "leave one out");
    const double speed = object.number_or("speed", 0), quality = object.number_or("quality", kUsualQuality);
    object.refuse_unknown();
    const std::vector<Measured>& all = context.measured().measured;
    if (all.empty())
      throw UsageError("the calibration holds no measured cache to choose from", "kinora calibrate measures them");
    if (by_speed) return best(all, &Measured::speed, speed, &Measured::psnr, "speed", "x");
    return best(all, &Measured::psnr, quality, &Measured::speed, "quality", " dB");
  } catch (const DataError& error) {  // the settings are the caller's, not a file's
    throw UsageError(error.what(), error.hint());
  }
}

}  // namespace kinora::cache
