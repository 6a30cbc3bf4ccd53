// How much a value has changed between calls: what data-driven caches decide by.
#pragma once

#include "kinora/cache/method.h"

namespace kinora::cache {

/// sum |now - before| / sum |before| over all rows and ranks, so that every rank decides alike; 0 where nothing is.
double relative_change(const Run& run, const Tensor& now, const Tensor& before);

/// Mean over rows [..., C], of all ranks, of |now| / |before|: by how much their lengths have grown.
double mean_ratio(const Run& run, const Tensor& now, const Tensor& before);

/// streams + what, stream by stream.
Streams add(const Streams& streams, const Streams& what);
Streams subtract(const Streams& streams, const Streams& what);

/// For caches that measure: a sampler that draws noise at each step changes the latents by more than the model does, and
/// defeats the measure. Throws UsageError.
void require_deterministic(const Context& context, std::string_view name);

}  // namespace kinora::cache
