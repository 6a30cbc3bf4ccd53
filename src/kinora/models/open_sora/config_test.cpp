#include "kinora/models/open_sora/config.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/log.h"

namespace kinora::models {
namespace {

TEST(STDiT3ConfigJson, ReadsWhatItWrites) {
  STDiT3Config config;
  config.hidden_size = 16;
  config.num_heads = 2;
  config.patch_size = {2, 2, 4};
  config.mlp_ratio = 2.5;
  config.qk_norm = false;
  config.pred_sigma = false;
  const Json json = config.to_json();
  EXPECT_EQ(STDiT3Config::from_json(json).to_json(), json);
  EXPECT_EQ(STDiT3Config::from_json(Json::object()).to_json(), STDiT3Config().to_json());
  EXPECT_EQ(config.out_channels(), 4);
  EXPECT_EQ(config.mlp_size(), 40);
}

TEST(STDiT3ConfigJson, WarnsOfUnknownKeysAndKnowsThePublishedOnes) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  STDiT3Config::from_json(
      {{"enable_layernorm_kernel", true}, {"input_size", {nullptr, nullptr, nullptr}}, {"drop_path", 0.0}});
  EXPECT_TRUE(lines.empty());
  STDiT3Config::from_json({{"surprise", 1}});
  set_log_sink({});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("surprise"), std::string::npos);
}

TEST(STDiT3ConfigJson, RefusesWrongTypesAndSizes) {
  const auto refuses = [](const Json& json) { EXPECT_THROW(STDiT3Config::from_json(json), DataError) << json; };
  refuses(Json::array());
  refuses({{"depth", "28"}});
  refuses({{"depth", 0}});
  refuses({{"hidden_size", 1152.5}});
  refuses({{"qk_norm", 1}});
  refuses({{"patch_size", {1, 2}}});
  refuses({{"patch_size", {1, 0, 2}}});
  refuses({{"patch_size", 2}});
  refuses({{"num_heads", 7}});
  refuses({{"hidden_size", 18}, {"num_heads", 1}});
  refuses({{"hidden_size", 12}, {"num_heads", 4}});
  refuses({{"mlp_ratio", -1}});
  refuses({{"input_sq_size", 0}});
}

}  // namespace
}  // namespace kinora::models
