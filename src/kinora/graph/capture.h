// Capture: what a function does to tensors, as a graph. A boxed fallback on a dispatch key that LibTorch leaves free
// sees every dispatcher call of this thread while a capture lives; operators run on meta twins, so nothing is computed
// and nothing allocated. Composite operators (linear, layer norm, attention) are seen whole.
#pragma once

#include <functional>

#include "kinora/graph/ir.h"

namespace kinora::graph {

struct CaptureInputs {
  std::vector<Tensor> inputs;  ///< the function receives twins of them
  std::vector<Tensor>
      conditioning;           ///< real tensors that it reads by itself and that change between replays; undefined: none
  size_t given = 0;           ///< so many of `inputs` will be moved into replays, which may write over them
  size_t counted = SIZE_MAX;  ///< so many outputs are the graph's to count
};

/// Records f(twins of inputs), which runs once, on this thread, without gradients. The graph's inputs are `inputs`, then
/// `conditioning`. Tensors that only constants went into are computed for real and are constants.
/// Throws std::logic_error for what would replay wrongly: a real tensor from elsewhere (its values would be baked in),
/// a value that is read though no operator wrote it (something writes behind the dispatcher), a write into an input or a
/// constant, a meta tensor from outside. Operators that need values (item, nonzero) throw what LibTorch throws for meta
/// tensors. Inputs, conditioning and weights may be without memory (meta) themselves: such a graph is to plan by.
Graph capture(const CaptureInputs& in, const std::function<std::vector<Tensor>(const std::vector<Tensor>& twins)>& f);

/// While one lives, tensors that are met inside a capture of this thread are constants: weights. Nothing outside of a
/// capture. Nests.
class ConstantsAllowed {
 public:
  ConstantsAllowed();
  ~ConstantsAllowed();
  ConstantsAllowed(const ConstantsAllowed&) = delete;
  ConstantsAllowed& operator=(const ConstantsAllowed&) = delete;
};
/// Makes `t` a constant of the capture of this thread from here on; nothing outside of a capture.
void note_constant(const Tensor& t);

/// Throws std::logic_error when this LibTorch does not route calls through the key that capture uses. Runs once before
/// the first capture of a process.
void check_dispatch_key();

}  // namespace kinora::graph
