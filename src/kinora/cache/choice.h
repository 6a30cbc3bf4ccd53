// "auto": the cache that a calibration found best for a wanted quality or speed.
#pragma once

#include <string_view>

#include "kinora/cache/calibration.h"
#include "kinora/cache/method.h"

namespace kinora::cache {

/// Whether `text`, as --cache takes it, leaves the choice to the calibration: "auto", "auto:quality=30", "auto:speed=2".
bool is_auto(std::string_view text);

/// The fastest of what was measured at that quality (PSNR in dB against the plain run, mean over clips), or the one of
/// the highest quality at that speed (of denoising, against the plain run). auto alone: 30 dB. Throws UsageError where
/// nothing was measured for the request (Context::measured), for both wishes at once, and for one that nothing meets, naming the nearest
/// that is.
Measured choose(std::string_view text, const Context& context);

}  // namespace kinora::cache
