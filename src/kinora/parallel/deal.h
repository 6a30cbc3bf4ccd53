// Requests over groups of ranks (data times sequence parallel): each is made by one group, whose ranks share its rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace kinora::parallel {

/// The group of each piece of work: the longest first, each to the group that would be through with it first (Graham
/// 1969: within 4/3 - 1/(3 G) of the best). Every rank comes to the same. cost >= 0; groups >= 1.
std::vector<int> deal(std::span<const double> costs, int groups);

/// How many groups of equal size to make of `ranks`: as many as there are requests, as far as that divides the ranks;
/// groups exchange nothing with each other.
int groups_for(int64_t requests, int ranks);

}  // namespace kinora::parallel
