#include "kinora/parallel/home.h"

#include "kinora/comm/counts.h"

namespace kinora::parallel {

std::vector<int64_t> Home::shares(int64_t n) const { return comm::even_counts(n, group_->size()); }

Tensor Home::local(const Tensor& whole, Axis axis, int dim) const {
  if (axis != axis_ || group_->size() == 1) return whole;
  const std::vector<int64_t> counts = shares(whole.size(dim));
  const auto rank = static_cast<size_t>(group_->rank());
  return whole.narrow(dim, comm::offsets(counts)[rank], counts[rank]);
}

Tensor Home::whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const {
  if (axis != axis_) return local;
  return gather(local, dim, shares(extent.of(axis)), *group_, exchange_name::kWhole);
}

Tensor Home::sum(const Tensor& partial) const { return parallel::sum(partial, *group_, exchange_name::kSum); }

}  // namespace kinora::parallel
