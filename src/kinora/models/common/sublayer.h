// A sublayer of a transformer block: the timestep modulates, something computes, a gate weighs it, a sum closes it; on
// the way it passes both points of its site.
#pragma once

#include <vector>

#include "kinora/nn/site.h"

namespace kinora::models {

/// What the timestep does to one stream around a sublayer (adaptive layer norm, Peebles & Xie 2023). Each broadcasts
/// against the stream; undefined: nothing.
struct Modulation {
  Tensor shift, scale, gate;
};
using Modulations = std::vector<Modulation>;  ///< one a stream

/// Each stream plus gate * compute(modulate()). `key` names the site; both of its points are passed here. Where the
/// residual is reused neither function runs, where the module is reused `modulate` alone does.
Streams add_sublayer(const Run& run, const Streams& streams, SiteKey key, c10::function_ref<Modulations()> modulate,
                     c10::function_ref<Streams(const Modulations&)> compute);

/// add_sublayer() for one stream.
Tensor add_sublayer(const Run& run, const Tensor& x, SiteKey key, c10::function_ref<Modulation()> modulate,
                    c10::function_ref<Tensor(const Modulation&)> compute);

}  // namespace kinora::models
