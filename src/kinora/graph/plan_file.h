// Plans that are kept between runs of the program, by what they depend on. A file of another build, or one that is
// damaged, is an empty file; a plan that does not fit its graph is no plan.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "kinora/graph/plan.h"

namespace kinora::graph {

class PlanFile {
 public:
  /// `build` names the program and its LibTorch. An empty path: plans are kept in memory alone.
  PlanFile(std::filesystem::path path, std::string build);

  /// Checked against the graph.
  std::optional<Plan> find(const Graph& graph, const PlanOptions& options);
  void put(const Graph& graph, const PlanOptions& options, const Plan& plan);
  /// Writes the file when something is new. Throws ResourceError when that fails.
  void save();
  size_t size() const { return plans_.size(); }

 private:
  std::filesystem::path path_;
  std::string build_;
  std::map<std::string, Plan> plans_;
  bool is_new_ = false;
};

}  // namespace kinora::graph
