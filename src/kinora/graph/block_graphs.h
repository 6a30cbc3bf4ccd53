// What attaches graphs to a model: a policy around another policy (or none) that runs each block of a stack as a captured
// graph, in pieces where a budget asks for it. Plans are keyed by structure, so equal blocks are planned once; graphs by
// block and by which of its sites are reused and kept. For inference; lives no longer than a request, whose host values
// (lengths of captions) are baked in.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/graph/arena.h"
#include "kinora/graph/chunked.h"
#include "kinora/graph/plan_file.h"
#include "kinora/nn/site.h"

namespace kinora::graph {

struct BlockGraphOptions {
  PlanOptions plan = {};      ///< budget: bytes of activations while one block runs, its streams among them
  bool verifies = true;       ///< each plan once against the whole, where memory allows; what differs is not used
  double tolerance = 1e-3;    ///< of the largest value, where plan.exact is false
  bool uses_arena = true;     ///< where the program installed it
  bool counts_kept = true;    ///< what the policy keeps of a block is part of the budget
  PlanFile* plans = nullptr;  ///< kept between runs; not owned
};

class BlockGraphs : public Policy {
 public:
  explicit BlockGraphs(BlockGraphOptions options = {}, Policy* inner = nullptr);
  ~BlockGraphs() override;
  /// Throws ResourceError, naming the smallest budget, before the first block runs in a budget that is too small.
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override;

  struct Counts {
    int graphs = 0, plans = 0;      ///< captured; planned (fewer: blocks are alike)
    int replays = 0, eager = 0;     ///< blocks that ran as graphs, and those that could not be captured
    int verified = 0, dropped = 0;  ///< plans compared with the whole, and regions that differed
    int64_t bytes = 0;              ///< predicted peak of any block
    int64_t whole_bytes = 0;        ///< the same without pieces
  };
  const Counts& counts() const { return counts_; }
  /// Nodes of all graphs whose key begins so: "blocks.0 reused 0101 kept ...".
  size_t nodes(std::string_view key) const;
  /// Results whose layout was not that of their twins: each is an operator whose meta kernel is wrong.
  const std::vector<std::string>& mismatches() const { return mismatches_; }

 private:
  struct Captured;
  struct Sites;
  Streams run_block(const Run& run, const Stack& blocks, int block, Streams streams);
  Captured capture_block(const Run& run, const Stack& blocks, int block, const std::vector<Tensor>& inputs,
                         size_t width, const Sites& sites);
  const Plan& plan_for(const Graph& graph, const std::vector<Tensor>& inputs);
  void drop_wrong_regions(Plan& plan, const Graph& graph, const std::vector<Tensor>& inputs);

  BlockGraphOptions options_;
  Policy* inner_;
  Counts counts_;
  std::vector<std::string> mismatches_;
  std::map<std::string, std::vector<SiteKey>> sites_;  ///< by stack and block, in the order of visits
  std::map<std::string, std::unique_ptr<Captured>> captured_;
  std::map<uint64_t, Plan> plans_;  ///< by structure
  std::map<uint64_t, std::unique_ptr<Arena>> arenas_;
  std::shared_ptr<ArenaMemory> memory_ = std::make_shared<ArenaMemory>();
};

}  // namespace kinora::graph
