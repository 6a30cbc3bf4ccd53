// The exchanges of layouts: dispatcher operators, so that a capture sees them, each with its transpose as backward.
// Packing is part of the transpose: one copy into the order of the wire, one copy out of it. A group of one rank gives
// back what it was given.
//
// Ranks hold uneven parts of a dimension, `counts` of each, possibly none. The communicator outlives every graph that
// was recorded or captured with it: operators carry its address. The backward of an exchange is counted under its name
// and " backward". Other errors are the communicator's.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kinora/comm/communicator.h"

namespace kinora::parallel {

using at::Tensor;
using comm::Communicator;

/// An all_to_all under way.
struct Flight {
  Tensor sent, got;
  std::unique_ptr<comm::Work> work;  ///< gone before the buffers
};

/// One dimension is cut while another, of which every rank has its part, becomes whole.
struct Switch {
  int64_t cut = 0, join = 0;  ///< dimensions
  std::vector<int64_t> cut_counts, join_counts;
  std::vector<int64_t> order = {};  ///< of the result's dimensions in memory; empty: that of each tensor
  /// The way back, to this order.
  Switch back(std::vector<int64_t> to_order = {}) const {
    return {join, cut, join_counts, cut_counts, std::move(to_order)};
  }
};

/// Dimensions from the outermost in memory to the innermost. What follows an exchange takes the same way as without it,
/// and merges heads without a copy where it would then, if memory keeps its order; strides of a dimension of size 1 do
/// not tell that.
std::vector<int64_t> memory_order(const Tensor& t);

/// Each tensor with `cut` whole and this rank's part of `join` -> this rank's part of `cut`, and `join` whole, dense. All
/// in one all_to_all. Backward: the switch back.
std::vector<Tensor> switch_dims(at::TensorList tensors, const Switch& which, Communicator& group,
                                const std::string& name);

/// A switch under way: `wait`, once, gives what switch_dims does. What is made of tensors without memory starts there.
class Switching {
 public:
  Switching(std::vector<Tensor> tensors, Switch which, Communicator& group, const std::string& name);
  std::vector<Tensor> wait();

 private:
  std::vector<Tensor> tensors_;
  Switch which_;
  Communicator* group_;
  std::string name_;
  Flight flight_;
};

/// This rank's part along `dim` -> the whole on every rank, contiguous; one all_gather. Backward: scatter_sum.
Tensor gather(const Tensor& part, int64_t dim, at::IntArrayRef counts, Communicator& group, const std::string& name);

/// Partial results of the whole -> this rank's part, along `dim`, of their sum, contiguous; one reduce_scatter.
/// Backward: gather.
Tensor scatter_sum(const Tensor& partial, int64_t dim, at::IntArrayRef counts, Communicator& group,
                   const std::string& name);

/// Partial results -> their sum on every rank; one all_reduce. Backward: the same of the gradient.
Tensor sum(const Tensor& partial, Communicator& group, const std::string& name);

/// Operators take what the schema language knows, and that has no pointers.
int64_t handle_of(Communicator& group);
Communicator& group_of(int64_t handle);

}  // namespace kinora::parallel
