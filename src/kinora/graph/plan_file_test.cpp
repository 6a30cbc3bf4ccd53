#include "kinora/graph/plan_file.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/test_folder.h"
#include "kinora/graph/test_graphs.h"
#include "kinora/graph/verify.h"

namespace kinora::graph {
namespace {

class PlanFiles : public testing::Test {
 protected:
  PlanFiles() : graph(test_transformer().capture()) {
    options.align_rows = 4;
    options.budget = least_budget(graph, options) * 3 / 2;
    made = plan(graph, options);
  }
  Graph graph;
  PlanOptions options;
  Plan made;
  TempFolder folder;
};

TEST_F(PlanFiles, APlanIsFoundAgain) {
  const auto path = folder.path() / "plans.json";
  {
    PlanFile file(path, "a build");
    EXPECT_FALSE(file.find(graph, options));
    file.put(graph, options, made);
    file.save();
  }
  PlanFile file(path, "a build");
  const auto found = file.find(test_transformer().capture(), options);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->regions, made.regions);
  EXPECT_EQ(found->bytes, made.bytes);
  PlanOptions other = options;
  other.budget += 1;
  EXPECT_FALSE(file.find(graph, other));
  EXPECT_FALSE(file.find(test_dit().capture(), options));
  EXPECT_EQ(PlanFile(path, "another build").size(), 0u);
}

TEST_F(PlanFiles, ADamagedFileIsAnEmptyOne) {
  const auto path = folder.path() / "plans.json";
  PlanFile file(path, "a build");
  file.put(graph, options, made);
  file.save();
  const std::string text = read_file(path, 1 << 20);
  int warnings = 0;
  set_log_sink([&](LogLevel, std::string_view) { ++warnings; });
  for (const std::string& damaged : {text.substr(0, text.size() / 2), std::string("[]"),
                                     std::string("{\"version\": 1, \"build\": \"a build\", \"plans\": {\"x\": 3}}")}) {
    write_file(path, damaged);
    EXPECT_EQ(PlanFile(path, "a build").size(), 0u);
  }
  set_log_sink({});
  EXPECT_EQ(warnings, 3);
}

TEST_F(PlanFiles, APlanThatDoesNotFitItsGraphIsNotUsed) {
  PlanFile file({}, "a build");
  for (const Region wrong : {Region{0, 999, RegionKind::rows, 1, 4}, Region{0, 3, RegionKind::rows, 2, 4},
                             Region{0, 3, RegionKind::rows, 1, 0}}) {
    Plan p = made;
    p.regions = {wrong};
    file.put(graph, options, p);
    EXPECT_FALSE(file.find(graph, options));
  }
}

TEST(Verify, FindsTheRegionsThatDiffer) {
  const TestGraph test = test_resnet();
  const Graph graph = test.capture();
  const Chunked chunked(graph, {{0, 2, RegionKind::rows, 2, 4}});  // a group norm by moments, and a convolution
  EXPECT_TRUE(wrong_regions(chunked, test.inputs, 1e-9).empty());
  // Moments that are merged round otherwise: not the same bits.
  EXPECT_FALSE(wrong_regions(chunked, test.inputs, 0).empty());
}

}  // namespace
}  // namespace kinora::graph
