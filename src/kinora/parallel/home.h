// What all sequence layouts share: video rows cut along one home axis over the ranks of a group. Rank r of N owns n / N
// rows, and one more where r < n % N; nothing is padded, so a rank may own none.
#pragma once

#include "kinora/nn/layout.h"
#include "kinora/parallel/exchange.h"

namespace kinora::parallel {

inline Axis other(Axis axis) { return axis == Axis::rows ? Axis::frames : Axis::rows; }
inline int64_t dim_of(Axis axis) { return static_cast<int64_t>(axis); }  ///< in [B, T, S, C]

/// Names under which exchanges are counted (comm/traffic.h).
namespace exchange_name {
inline constexpr const char* kWhole = "gather rows";  ///< of what leaves the model, after its head
inline constexpr const char* kSum = "sum";
}  // namespace exchange_name

/// For Layout's functions of the same names.
class Home {
 public:
  Home(Communicator& group, Axis axis) : group_(&group), axis_(axis) {}
  Communicator& group() const { return *group_; }
  Axis axis() const { return axis_; }
  /// How many of n rows each rank owns.
  std::vector<int64_t> shares(int64_t n) const;
  Tensor local(const Tensor& whole, Axis axis, int dim) const;
  Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const;
  Tensor sum(const Tensor& partial) const;

 private:
  Communicator* group_;
  Axis axis_;
};

}  // namespace kinora::parallel
