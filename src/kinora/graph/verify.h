// Whether pieces give what the whole gives, on the tensors at hand.
#pragma once

#include "kinora/graph/chunked.h"

namespace kinora::graph {

/// Runs the graph whole, and each region also in pieces on the same tensors: the regions whose results differ by more
/// than `tolerance` times the largest value (0: by any bit), or that throw. Takes the memory of the whole.
std::vector<size_t> wrong_regions(const Chunked& chunked, const std::vector<Tensor>& inputs, double tolerance);

}  // namespace kinora::graph
