// For tests: every operator that has a rule, with inputs, and the dims of its result that can be cut.
#pragma once

#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kinora/graph/ir.h"

namespace kinora::graph {

struct RuleCase {
  std::string dims;  ///< "02": dims 0 and 2
  std::vector<Tensor> inputs;
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> f;  ///< its last call is the operator
};

/// Positive values in float64, for operators that have no others.
inline Tensor draw(at::IntArrayRef sizes) { return at::rand(sizes, at::kDouble) + 0.1; }

/// A list that takes functions which give one tensor, too.
struct RuleCases {
  using Tensors = std::vector<Tensor>;
  std::vector<RuleCase> all;
  template <typename F>
  void add(std::string dims, Tensors inputs, F f) {
    all.push_back({std::move(dims), std::move(inputs), [f](const Tensors& in) -> Tensors {
                     if constexpr (std::is_same_v<decltype(f(in)), Tensor>)
                       return {f(in)};
                     else
                       return f(in);
                   }});
  }
};

/// In float64.
std::vector<RuleCase> rule_cases();
std::vector<RuleCase> elementwise_cases();
std::vector<RuleCase> view_cases();
std::vector<RuleCase> window_cases();

}  // namespace kinora::graph
