// What operators without a meta kernel in C++ give: sizes, strides and dtype, on meta tensors. (LibTorch has those
// kernels in Python.) Held against the real kernels by the test.
#pragma once

#include <span>
#include <string_view>

#include "kinora/graph/ir.h"

namespace kinora::graph {

struct ShapeRule {
  std::string_view name;  ///< "aten::var.dim", or without overload where all overloads are alike
  std::vector<Tensor> (*results)(std::span<const c10::IValue> arguments);
};

/// nullptr: the operator has a meta kernel, or none that is known.
const ShapeRule* find_shape_rule(const c10::FunctionSchema& schema);
/// Takes the arguments from the stack and leaves the results.
void apply(const ShapeRule& rule, CallStack& stack, size_t num_arguments);

std::span<const ShapeRule> shape_rules();

}  // namespace kinora::graph
