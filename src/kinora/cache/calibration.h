// What `kinora calibrate` measures of a model for the caches that are set by its numbers. It lies as calibration.json
// beside the transformer's weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kinora/base/json.h"

namespace kinora::cache {

inline constexpr const char* kCalibrationFile = "calibration.json";

/// Inner products of the vectors that a denoising is made of, means over values and clips: the predictions of call i for
/// cond (i) and uncond (calls + i), and the first latents (2 calls). The error of every linear extrapolation follows
/// from these alone.
struct Gram {
  int64_t calls = 0;
  std::vector<double> products;  ///< [2 calls + 1, 2 calls + 1], symmetric

  int64_t size() const { return 2 * calls + 1; }
  double at(int64_t a, int64_t b) const { return products[static_cast<size_t>(a * size() + b)]; }
};

/// One cache against the plain run.
struct Measured {
  std::string cache;          ///< as --cache takes it
  double speed = 1;           ///< denoising time of the plain run over its own
  double psnr = 0, ssim = 0;  ///< mean over clips
};

/// For one number of steps and one size of clip.
struct CalibratedRun {
  int64_t steps = 0, clips = 0;
  int64_t rows = 0;              ///< of a block's output with both branches: tells one size of clip from another
  std::vector<double> schedule;  ///< the timestep of each call
  Gram gram;
  std::vector<double> ratios;        ///< MagCache: |what the blocks added| over that of the call before
  std::vector<double> coefficients;  ///< TeaCache: polynomial, highest power first; empty: not known
  std::vector<Measured> measured;
};

struct Calibration {
  std::string model;     ///< class
  uint32_t weights = 0;  ///< fingerprint of the transformer's
  std::vector<CalibratedRun> runs;

  /// The run with that many steps, or nothing.
  const CalibratedRun* find(int64_t steps) const;
  /// The run whose steps are nearest, or nothing where there is none.
  const CalibratedRun* nearest(int64_t steps) const;
  /// Adds the run in place of one with as many steps.
  void put(CalibratedRun run);

  Json to_json() const;
  /// Throws DataError naming the key.
  static Calibration from_json(const Json& json, const std::string& what);
};

}  // namespace kinora::cache
