// The layouts by name: what each takes, and how one is made over a group of ranks.
#pragma once

#include <memory>
#include <span>

#include "kinora/parallel/exchange.h"
#include "kinora/parallel/facts.h"

namespace kinora::parallel {

struct LayoutKind {
  const char* name;
  const char* what;   ///< one sentence for people
  const char* bytes;  ///< what one rank sends in each attention that exchanges, where N divides all
  /// What keeps it from a model; empty: it takes it.
  std::string (*obstacle)(const ModelFacts& facts);
};
/// dsp, dsp-stream, ulysses, ring, ulysses+ring, megatron.
std::span<const LayoutKind> layouts();

/// Throws UsageError, naming what fits: for a layout that is not there or does not take this model, for more ranks than
/// both frames and rows of a frame, for heads_ranks that do not divide the ranks, for pieces of another layout than dsp
/// and ulysses.
void check_layout(const Arrangement& arrangement, const ModelFacts& facts, const Extent& extent);

/// A layout with the groups that it works in.
class MadeLayout {
 public:
  const Layout& layout() const { return *layout_; }
  /// The ranks of the other guidance branches that own the same rows, for GuidanceParallel; of one rank where branches
  /// are not apart.
  Communicator& across() { return *across_; }
  /// The ranks over which rows are cut.
  Communicator& sequence() { return *sequence_; }

 private:
  friend MadeLayout make_layout(const Arrangement&, const ModelFacts&, const Extent&, Communicator&);
  friend MadeLayout shape_of_layout(const Arrangement&, const ModelFacts&, const Extent&);
  std::unique_ptr<Communicator> across_, sequence_, heads_, ring_;
  std::unique_ptr<Layout> layout_;
};

/// Collective. Rank r of `world` works on guidance branch r / ranks and is rank r % ranks of its sequence: neighbours
/// share a sequence, where the bytes are. Throws as check_layout, and UsageError where the world has another size than
/// branches * ranks. `world` and what is made outlive all that was recorded or captured with it.
MadeLayout make_layout(const Arrangement& arrangement, const ModelFacts& facts, const Extent& extent,
                       Communicator& world);

/// The first rank's, which has most rows, without the others: for what a model call takes, on tensors without memory. Its
/// exchanges have shapes and cannot run. Throws as check_layout.
MadeLayout shape_of_layout(const Arrangement& arrangement, const ModelFacts& facts, const Extent& extent);

}  // namespace kinora::parallel
