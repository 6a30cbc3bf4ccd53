// Arithmetic of counts: how many elements belong to which rank.
#pragma once

#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace kinora::comm {

inline int64_t sum(std::span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

/// `total` in `ranks` parts as even as can be; the first ranks have the longer ones.
inline std::vector<int64_t> even_counts(int64_t total, int ranks) {
  std::vector<int64_t> counts(static_cast<size_t>(ranks), total / ranks);
  for (int64_t i = 0; i < total % ranks; ++i) ++counts[static_cast<size_t>(i)];
  return counts;
}

/// Where each rank's part begins.
inline std::vector<int64_t> offsets(std::span<const int64_t> counts) {
  std::vector<int64_t> begins(counts.size(), 0);
  std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), int64_t{0});
  return begins;
}

}  // namespace kinora::comm
