#include "kinora/video/mask_strategy.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"

namespace kinora::video {
namespace {

TEST(MaskStrategy, GivenFramesTakeThePlaceAndTheRatio) {
  at::Tensor latents = at::zeros({1, 1, 4, 1, 1});
  const auto ratios = apply_mask_strategy(latents, {{at::arange(1, 4, at::kFloat).view({1, 3, 1, 1})}},
                                          {text::parse_mask_strategy("0,0,1,2,9,0.25")}, 0, std::nullopt);
  EXPECT_EQ(ratios, (std::vector<double>{1, 1, 0.25, 0.25}));
  EXPECT_TRUE(latents.flatten().equal(at::tensor({0.0f, 0.0f, 2.0f, 3.0f})));
}

TEST(MaskStrategy, GroupsOfOtherLoopsAreLeftAlone) {
  at::Tensor latents = at::zeros({1, 1, 2, 1, 1});
  EXPECT_EQ(apply_mask_strategy(latents, {{}}, {text::parse_mask_strategy("3,0")}, 0, std::nullopt),
            (std::vector<double>{1, 1}));
}

TEST(MaskStrategy, AReferenceOfAnotherSizeIsAUsageError) {
  using Shapes = std::vector<std::vector<int64_t>>;
  at::Tensor latents = at::zeros({1, 2, 4, 3, 5});
  for (const std::vector<int64_t>& shape : Shapes{{1, 2, 3, 5}, {2, 2, 1, 5}, {2, 2, 3, 1}, {2, 2, 3}})
    EXPECT_THROW(apply_mask_strategy(latents, {{at::zeros(shape)}}, {text::parse_mask_strategy("0")}, 0, std::nullopt),
                 UsageError)
        << at::IntArrayRef(shape);
}

TEST(MaskStrategy, ReferencesAndStartsThatAreNotThereAreUsageErrors) {
  at::Tensor latents = at::zeros({1, 1, 2, 1, 1});
  const std::vector<std::vector<at::Tensor>> one{{at::zeros({1, 2, 1, 1})}};
  for (const auto align : {std::optional<int64_t>(), std::optional<int64_t>(5)}) {
    for (const char* strategy : {"0,1", "0,-1", "0,0,5", "0,0,-3", "0,0,0,-3"}) {
      EXPECT_THROW(apply_mask_strategy(latents, one, {text::parse_mask_strategy(strategy)}, 0, align), UsageError)
          << strategy;
    }
  }
}

}  // namespace
}  // namespace kinora::video
