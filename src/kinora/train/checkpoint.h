// Training checkpoints: DIR/step-N.safetensors, complete or not there, with a sum beside it that a later read is held
// against.
#pragma once

#include <filesystem>
#include <optional>

#include "kinora/tensor/convert.h"

namespace kinora::train {

/// Writes the tensors of `step` and drops the others but the two before. The file appears whole (temporary, fsync,
/// rename), then its sum, and only then others go; a file without a sum does not count. Throws ResourceError (disk),
/// leaving older checkpoints as they were.
void save_checkpoint(const std::filesystem::path& folder, int64_t step, const NamedTensors& tensors);

/// Removes all steps but the newest three up to `step`, and tensors without a sum: a run that was killed while it dropped a
/// checkpoint leaves such. Later steps are damaged ones, which a resume has passed over.
void drop_other_checkpoints(const std::filesystem::path& folder, int64_t step);

struct SavedStep {
  int64_t step;
  std::filesystem::path file;
};

/// The newest checkpoint whose sum holds; damaged ones are skipped with a warning that names them. Nothing when the
/// folder has no checkpoint; DataError when it has some and none is whole, ResourceError when it cannot be read: a run
/// never starts anew in silence.
std::optional<SavedStep> newest_checkpoint(const std::filesystem::path& folder);

}  // namespace kinora::train
