// The feed-forward layer of diffusers' transformer blocks, with its activations by their names there.
#pragma once

#include <string_view>

#include "kinora/nn/layers.h"

namespace kinora::models {

/// What stands between the two linear layers: an activation, or one half of a twice as wide layer times the activated
/// other half (Shazeer 2020).
struct FeedForwardForm {
  ops::Activation activation = ops::Activation::gelu_tanh;
  bool gated = false;
};

/// "gelu", "gelu-approximate", "geglu", "swiglu", "linear-silu". Throws DataError for another name, naming `what`.
FeedForwardForm feed_forward_form(std::string_view name, std::string_view what);

/// x [..., width] -> [..., width]. "net.0.proj", "net.2" (net.1 is dropout).
class FeedForward {
 public:
  FeedForward(const Scope& scope, int64_t width, int64_t inner, FeedForwardForm form, bool bias = true);
  Tensor operator()(const Run& run, const Tensor& x) const;

 private:
  FeedForwardForm form_;
  Linear first_, second_;
};

}  // namespace kinora::models
