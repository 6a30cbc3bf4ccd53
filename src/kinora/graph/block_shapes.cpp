#include "kinora/graph/block_shapes.h"

#include "kinora/graph/capture.h"
#include "kinora/graph/script.h"

namespace kinora::graph {
namespace {

/// Computes every site and notes what leaves the block.
class Keeper : public Policy {
 public:
  explicit Keeper(const Policy* keeper) : keeper_(keeper) {}
  bool keeps(const SiteKey& key, const Run& run) const override { return keeper_ && keeper_->keeps(key, run); }
  void keep(const SiteKey&, const Run&, const Streams& streams) override {
    kept.insert(kept.end(), streams.begin(), streams.end());
  }
  Streams kept;

 private:
  const Policy* keeper_;
};

}  // namespace

Streams BlockShapes::stack(const Run& run, const Stack& blocks, Streams streams) {
  for (int block = 0; block < blocks.blocks; ++block) {
    const auto trace = [&](const std::vector<Tensor>& twins) {
      Keeper keeper(keeper_);
      Streams out = trace_block(run, blocks, block, twins, keeper);
      out.insert(out.end(), keeper.kept.begin(), keeper.kept.end());
      return out;
    };
    const size_t counted = counts_kept_ ? SIZE_MAX : streams.size();
    graphs.push_back(std::make_unique<Graph>(capture({streams, blocks.conditioning, streams.size(), counted}, trace)));
  }
  return streams;
}

}  // namespace kinora::graph
