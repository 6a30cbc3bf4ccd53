#include "kinora/media/frames_tensor.h"

#include <gtest/gtest.h>

namespace kinora::media {
namespace {

TEST(FramesTensor, EveryLevelSurvivesTheRoundTrip) {
  Frames clip = make_frames(2, 16, 9, 8);
  for (size_t i = 0; i < clip.rgb.size(); ++i) clip.rgb[i] = static_cast<uint8_t>(i);
  const at::Tensor pixels = to_tensor(clip);
  EXPECT_EQ(pixels.sizes(), at::IntArrayRef({3, 2, 16, 9}));
  EXPECT_EQ(to_frames(pixels, 8).rgb, clip.rgb);
}

TEST(FramesTensor, ValuesOutsideTheRangeAreClamped) {
  const at::Tensor pixels = at::tensor({-3.0, 3.0, 0.0}).view({3, 1, 1, 1});
  EXPECT_EQ(to_frames(pixels, 8).rgb, (std::vector<uint8_t>{0, 255, 128}));
}

TEST(FramesTensor, OtherShapesAreAUsageError) { EXPECT_THROW(to_frames(at::zeros({1, 3, 2, 2}), 8), UsageError); }

}  // namespace
}  // namespace kinora::media
