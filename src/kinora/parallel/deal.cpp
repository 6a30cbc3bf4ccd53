#include "kinora/parallel/deal.h"

#include <algorithm>
#include <numeric>

namespace kinora::parallel {

std::vector<int> deal(std::span<const double> costs, int groups) {
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  std::vector<double> busy(static_cast<size_t>(groups), 0);
  std::vector<int> dealt(costs.size());
  for (const size_t i : order) {
    const auto first = std::min_element(busy.begin(), busy.end());
    *first += costs[i];
    dealt[i] = static_cast<int>(first - busy.begin());
  }
  return dealt;
}

int groups_for(int64_t requests, int ranks) {
  int groups = static_cast<int>(std::min<int64_t>(requests, ranks));
  while (ranks % groups != 0) --groups;
  return groups;
}

}  // namespace kinora::parallel
