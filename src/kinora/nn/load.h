// Weights from a checkpoint into memory, with every mismatch named before a model runs.
#pragma once

#include <string>
#include <vector>

#include "kinora/nn/weights.h"
#include "kinora/tensor/checkpoint.h"
#include "kinora/tensor/ledger.h"

namespace kinora {

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  std::string prefix;                ///< put before each parameter's name to find it in the checkpoint
  std::vector<std::string> surplus;  ///< names (after the prefix) that may be left over
  Ledger* ledger = nullptr;
};

/// Every parameter of the model from the checkpoint: a view of the mapped file where dtype and alignment allow, else a copy.
/// Parameters marked optional and absent get their Init. Throws DataError that names (the first five of) missing, surplus and
/// misshapen tensors, or the first one that holds NaN or infinity and its file.
ResidentWeights load_weights(const Params& params, const Checkpoint& checkpoint, const LoadOptions& options = {});

/// The checks of names and shapes alone, from the files' headers: before any work, in milliseconds.
void check_weights(const Params& params, const Checkpoint& checkpoint, const LoadOptions& options = {});

/// The checkpoint's tensor of every parameter, by id: null where an optional one is absent. Throws as check_weights.
std::vector<const CheckpointTensor*> find_weights(const Params& params, const Checkpoint& checkpoint,
                                                  const LoadOptions& options = {});

}  // namespace kinora
