#include "kinora/offload/blocks.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/offload/toy_model.h"

namespace kinora::offload {
namespace {

TEST(Blocks, AreFoundInNamesAndTakenInTurn) {
  Params params;
  for (const char* name : {"embed.weight", "t_block.1.weight", "spatial.0.a.weight", "temporal.0.a.0.weight",
                           "spatial.1.a.weight", "temporal.1.a.0.weight", "spatial.1.b.2.weight", "late.1.weight",
                           "late.2.weight", "v2.x9.weight", "huge.123456789012.weight"}) {
    params.add(name, {2, 2}, {});
  }
  const Blocks blocks = find_blocks(params);
  EXPECT_EQ(blocks.names, (std::vector<std::string>{"spatial.0", "temporal.0", "spatial.1", "temporal.1"}));
  EXPECT_EQ(blocks.of, (std::vector<int>{-1, -1, 0, 1, 2, 3, 2, -1, -1, -1, -1}));
}

TEST(Blocks, OnlyMatricesInBlocksMayStream) {
  const test::ToyModel model(2);
  const Blocks blocks = find_blocks(model.params());
  const auto may = [&](const std::string& name, int64_t least) {
    return may_stream(*model.params().find(name), blocks, least);
  };
  EXPECT_TRUE(may("blocks.1.attn.proj.weight", 576));
  EXPECT_FALSE(may("blocks.1.attn.proj.weight", 577));
  EXPECT_FALSE(may("blocks.1.attn.proj.bias", 1));
  EXPECT_FALSE(may("blocks.1.norm.weight", 1));
  EXPECT_FALSE(may("embed.weight", 1));
}

TEST(StreamPlan, KeepsAsManyBlocksAsTheBudgetAllows) {
  const test::ToyModel model(5);
  const uint64_t block = (24 * 24 + 2 * 24 * 48) * 4, whole = static_cast<uint64_t>(model.params().num_elements()) * 4;
  const uint64_t rest = whole - 5 * block;
  for (int count = 0; count <= 2; ++count) {
    const StreamPlan plan =
        plan_stream(model.params(), 4, rest + (2 + static_cast<uint64_t>(count)) * block, 2, test::kAll);
    EXPECT_EQ(std::count(plan.resident.begin(), plan.resident.end(), true), count);
    EXPECT_EQ(plan.bytes(), rest + (2 + static_cast<uint64_t>(count)) * block);
    EXPECT_EQ(plan.streamed_bytes, (5 - static_cast<uint64_t>(count)) * block);
    EXPECT_EQ(plan.slots, 2);
  }
  const StreamPlan one_left = plan_stream(model.params(), 4, whole, 2, test::kAll);
  EXPECT_EQ(one_left.slots, 0);
  EXPECT_EQ(one_left.bytes(), whole);
  EXPECT_EQ(one_left.streamed_bytes, 0u);
  try {
    plan_stream(model.params(), 4, rest + 2 * block - 1, 2, test::kAll);
    FAIL() << "a ring that does not fit was planned";
  } catch (const ResourceError& error) {
    EXPECT_NE(std::string(error.hint()).find("is the least"), std::string::npos) << error.hint();
  }
}

}  // namespace
}  // namespace kinora::offload
