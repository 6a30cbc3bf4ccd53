#include "kinora/models/open_sora/work.h"

#include <gtest/gtest.h>

#include "kinora/models/open_sora/test_stdit3.h"

namespace kinora::models {
namespace {

class Visitor : public Policy {
 public:
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  void ran(const SiteKey& key, const Run&, bool) override {
    if (key.point == Point::residual) paths.emplace_back(key.path), kinds.push_back(key.kind);
  }
  std::vector<std::string> paths;
  std::vector<Kind> kinds;
};

TEST(STDiT3Work, NamesTheSitesInTheOrderInWhichAModelVisitsThem) {
  TestSTDiT3 model;
  Visitor visitor;
  model.run.policy = &visitor;
  model(stdit3_inputs());
  const auto sites = stdit3_sites(model.model.config(), 3, 5, 7, 6);
  ASSERT_EQ(sites.size(), visitor.paths.size());
  for (size_t i = 0; i < sites.size(); ++i) {
    EXPECT_EQ(sites[i].path, visitor.paths[i]);
    EXPECT_EQ(sites[i].kind, visitor.kinds[i]);
  }
}

TEST(STDiT3Work, OfSitesIsThatOfBlocksButForTheTextsKeys) {
  STDiT3Config config = tiny_stdit3();
  config.depth = 2;
  double sum = 0;
  for (const SiteWork& site : stdit3_sites(config, 3, 5, 7, 6)) sum += site.flops;
  const double two = stdit3_flops(config, 3, 5, 7, 6);
  config.depth = 1;
  const double block = two - stdit3_flops(config, 3, 5, 7, 6), d = static_cast<double>(config.hidden_size);
  EXPECT_DOUBLE_EQ(sum, 2 * (block - 2 * 4 * 6 * d * d));
}

}  // namespace
}  // namespace kinora::models
