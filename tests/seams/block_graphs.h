// What attaches graphs to a model: a policy that runs each block of a stack as a graph, keyed by the block and by
// which of its sites are reused and kept.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kinora/nn/site.h"
#include "seams/capture.h"

namespace kinora::seams {

/// Runs blocks as graphs under another policy (or none), which decides about sites and owns the loop as ever.
class BlockGraphs : public Policy {
 public:
  explicit BlockGraphs(Policy* inner = nullptr) : inner_(inner) {}
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override;

  size_t plans() const { return plans_.size(); }
  size_t nodes(const std::string& prefix) const;  ///< of all plans whose key begins so
  std::vector<std::string> keys() const;
  int replays = 0;
  bool forgets_conditioning = false, own_storage = true;  ///< broken on purpose
  std::vector<std::string> mismatches;

 private:
  Streams run_block(const Run& run, const Stack& blocks, int block, Streams streams);
  Policy* inner_;
  std::map<int, std::vector<SiteKey>> sites_;
  std::map<std::string, Graph> plans_;
};

}  // namespace kinora::seams
