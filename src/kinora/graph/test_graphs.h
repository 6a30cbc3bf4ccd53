// For tests: small functions with the shapes of real blocks, in float64.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kinora/graph/capture.h"

namespace kinora::graph {

struct TestGraph {
  std::string name;
  std::vector<Tensor> inputs;
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> f;
  Graph capture() const { return graph::capture({inputs, {}, 1}, f); }
};

/// Attention by products with a mask, gated and plain MLPs, residual sums.
TestGraph test_transformer();
/// Fused attention, rotary positions, modulation, an unbound qkv: Kinora's operators.
TestGraph test_dit();
/// Convolutions with halos, group norms, a shortcut, upsampling.
TestGraph test_resnet();
/// Writes in place, views that are written, einsum, tables, several results.
TestGraph test_odd();
inline std::vector<TestGraph> test_graphs() { return {test_transformer(), test_dit(), test_resnet(), test_odd()}; }

}  // namespace kinora::graph
