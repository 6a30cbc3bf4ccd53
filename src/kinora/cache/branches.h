// What every cache needs to keep guidance branches apart: a model call may carry one branch, or both as row groups of its
// batch, and what is kept of one must never stand in for the other.
#pragma once

#include <vector>

#include "kinora/nn/site.h"

namespace kinora::cache {

/// Branches of a call in the order of its row groups; cond alone where the run names none.
std::vector<Branch> branches_of(const Run& run);
/// Dimension 0 of every stream in as many equal parts; views.
std::vector<Streams> split_branches(const Streams& streams, size_t branches);
/// The inverse; one part is returned as it is.
Streams join_branches(const std::vector<Streams>& parts);

}  // namespace kinora::cache
