// For tests: every operator that has a rule, with inputs, and the dims of its result that can be cut.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kinora/graph/ir.h"

namespace kinora::graph {

struct RuleCase {
  std::string dims;  ///< "02": dims 0 and 2
  std::vector<Tensor> inputs;
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> f;  ///< its last call is the operator
};

/// In float64.
std::vector<RuleCase> rule_cases();
std::vector<RuleCase> elementwise_cases();
std::vector<RuleCase> view_cases();
std::vector<RuleCase> window_cases();

}  // namespace kinora::graph
