// One training stage: steps of loss, backward and update, with a rate that warms up, holds and decays, a guard against
// bad steps (guard.h), checkpoints and resume. A step draws all its random numbers from (seed, batch, part), so that a
// resumed run equals an uninterrupted one bit for bit, on any number of threads.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/train/trainable.h"

namespace kinora::train {

struct StageOptions {
  std::string name;
  int64_t steps = 0;
  int64_t batch = 32;
  /// Equal parts of a batch, computed side by side where the CPU has a thread for each: a small model's operators are too
  /// short to be shared by threads. The gradient is the parts' mean.
  int64_t parts = 1;
  int64_t warmup_steps = 50;
  double decay_from = 0.6;  ///< share of the steps at which the rate begins to fall, linearly
  double final_factor = 0.03;
  double clip_norm = 1.0;
  int64_t seed = 0;
  double checkpoint_seconds = 120;
  OptimizerOptions optimizer;

  /// Reads the members of these names ("lr", "muon_lr", "ema_decay", "weight_decay", "beta2" for the optimizer). Throws
  /// DataError naming the key that is of another type or beyond its limits.
  static StageOptions from_json(const JsonObject& json, std::string name, int64_t default_seed = 0);
};

/// json.number_or with limits; throws DataError naming the key.
double number_within(const JsonObject& json, std::string_view key, double fallback, double low, double high);

struct StageHooks {
  std::filesystem::path folder;      ///< of checkpoints and the loss table
  std::ostream* progress = nullptr;  ///< one progress line; null: none
  std::stop_token cancel;            ///< saves a checkpoint, then throws CancelledError
  std::function<void(int64_t step)> on_checkpoint;
};

/// What one call of the loss works on.
struct Part {
  int64_t step = 0;
  int64_t index = 0;         ///< 0 .. options.parts - 1: computes with Trainable::weights(index)
  int64_t batch = 0;         ///< samples in this part
  at::Generator& generator;  ///< seeded by (seed, batch, index): the batch is the step, until some are left out
};

/// The mean loss of a part's samples as a scalar with gradients. Parts of a step call it from several threads at once.
using LossFunction = std::function<Tensor(const Part& part)>;

struct StageResult {
  double loss = 0;      ///< mean of the last 50 steps that counted
  int64_t skipped = 0;  ///< steps that the guard kept from the weights
};

/// Trains until options.steps, resuming from the newest checkpoint in hooks.folder; loss.csv there is written with each
/// checkpoint and has a row for each step up to it. When the guard is in doubt, the stage goes back to the newest checkpoint
/// and leaves out the batches since. Throws DataError when it would go back to the same one again or has none,
/// CancelledError, and ResourceError for the disk.
StageResult run_stage(const StageOptions& options, const std::vector<Trainable*>& models, const LossFunction& loss,
                      const StageHooks& hooks);

/// Rate factor of a step, 0 .. 1.
double lr_factor(const StageOptions& options, int64_t step);

}  // namespace kinora::train
