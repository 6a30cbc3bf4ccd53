// What a stack's blocks will take, before there is anything to compute: a policy that captures each block on tensors
// without memory and runs none.
#pragma once

#include <memory>
#include <vector>

#include "kinora/graph/ir.h"
#include "kinora/nn/site.h"

namespace kinora::graph {

/// For a call of a model whose inputs and weights are meta tensors. Streams come back as they were.
class BlockShapes : public Policy {
 public:
  /// Sites that `keeper` keeps in the step of the call leave their block as outputs; null: none does. None is reused.
  explicit BlockShapes(const Policy* keeper = nullptr, bool counts_kept = true)
      : keeper_(keeper), counts_kept_(counts_kept) {}
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override;

  std::vector<std::unique_ptr<Graph>> graphs;  ///< one for each block

 private:
  const Policy* keeper_;
  bool counts_kept_;  ///< as BlockGraphOptions
};

}  // namespace kinora::graph
