#include "kinora/video/tables.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "kinora/base/error.h"

namespace kinora::video {
namespace {

TEST(Tables, RatiosAreHeightToWidth) {
  EXPECT_EQ(image_size("480p", "9:16").height, 480);
  EXPECT_EQ(image_size("480p", "9:16").width, 854);
  EXPECT_EQ(image_size("720p", "16:9").height, 1280);
}

TEST(Tables, EveryNamedResolutionHasEveryAspectRatio) {
  for (const Resolution& table : resolutions()) {
    for (const auto& [ratio, key] : aspect_ratios()) {
      const TableSize& size = image_size(table.name, ratio);
      EXPECT_NEAR(static_cast<double>(size.height * size.width) / static_cast<double>(table.area), 1.0, 0.15)
          << table.name << " " << ratio;
    }
  }
}

TEST(Tables, ClosestTakesTheNearestKeyAndTheFirstOfEquals) {
  EXPECT_STREQ(closest_size(resolution("256"), 100, 333).key, "0.32");
  EXPECT_STREQ(closest_size(resolution("720p"), 1000, 1000).key, "1.00");
}

TEST(Tables, LengthsHaveNames) {
  EXPECT_EQ(num_frames_of("2s"), 51);
  EXPECT_EQ(num_frames_of("16x"), 816);
  EXPECT_EQ(num_frames_of("17"), 17);
}

TEST(Tables, UnknownNamesAreUsageErrorsThatListTheKnownOnes) {
  const std::vector<std::function<void()>> calls{[] { resolution("481p"); }, [] { image_size("480p", "10:16"); },
                                                 [] { num_frames_of("3s"); }};
  for (const auto& bad : calls) {
    try {
      bad();
      ADD_FAILURE() << "no error";
    } catch (const UsageError& error) {
      EXPECT_FALSE(error.hint().empty());
    }
  }
  for (const char* frames : {"0", "-1", "", "1.5", "99999999999999999999"})
    EXPECT_THROW(num_frames_of(frames), UsageError) << frames;
}

}  // namespace
}  // namespace kinora::video
