// Weights from a checkpoint into memory, with every mismatch named before a model runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kinora/nn/weights.h"
#include "kinora/tensor/checkpoint.h"
#include "kinora/tensor/ledger.h"

namespace kinora {

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  std::string prefix;  ///< put before each parameter's name to find it in the checkpoint
  std::function<std::string(const std::string&)> alias;  ///< another name to try when the published one is absent
  std::vector<std::string> surplus;                      ///< names (after the prefix) that may be left over
  Ledger* ledger = nullptr;
};

/// Every parameter of the model from the checkpoint: a view of the mapped file where dtype and alignment allow, else a copy.
/// Parameters marked optional and absent get their Init. Throws DataError that names (the first five of) missing, surplus and
/// misshapen tensors, and one that holds NaN or infinity.
ResidentWeights load_weights(const Params& params, const Checkpoint& checkpoint, const LoadOptions& options = {});

/// The checks of names and shapes alone, from the files' headers: before any work, in milliseconds.
void check_weights(const Params& params, const Checkpoint& checkpoint, const LoadOptions& options = {});

}  // namespace kinora
