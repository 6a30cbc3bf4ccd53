#include "kinora/video/conditioning.h"

#include <gtest/gtest.h>

#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/media/png.h"

namespace kinora::video {
namespace {

media::Frames painted(int64_t frames, int64_t height, int64_t width) {
  media::Frames clip = media::make_frames(frames, height, width, 8);
  for (size_t i = 0; i < clip.rgb.size(); ++i) clip.rgb[i] = static_cast<uint8_t>(i * 7);
  return clip;
}

TEST(Conditioning, AClipOfTheFramesSizeStaysAsItIs) {
  const Reference clip{"a", painted(5, 6, 8)};
  const media::Frames part = fill_frames(clip, 1, 3, 6, 8);
  EXPECT_EQ(part.frames, 3);
  EXPECT_TRUE(std::equal(part.rgb.begin(), part.rgb.end(), clip.frames.frame(1)));
}

TEST(Conditioning, APictureFillsTheFrameAndIsCutAroundItsMiddle) {
  // Left third red, middle green, right third blue; a square frame sees the middle.
  media::Frames wide = media::make_frames(1, 10, 30);
  for (int64_t i = 0; i < 300; ++i) wide.rgb[static_cast<size_t>(3 * i + (i % 30) / 10)] = 255;
  const media::Frames filled = fill_frames({"wide", wide}, 0, 1, 20, 20);
  EXPECT_EQ(filled.height, 20);
  EXPECT_EQ(filled.width, 20);
  const size_t middle = (10 * 20 + 10) * 3;
  EXPECT_EQ(filled.rgb[middle], 0);
  EXPECT_EQ(filled.rgb[middle + 1], 255);
  EXPECT_EQ(filled.rgb[middle + 2], 0);
}

TEST(Conditioning, SmallerPicturesAreAveragedNotSampled) {
  media::Frames stripes = media::make_frames(1, 64, 64);
  for (int64_t i = 0; i < 64 * 64; ++i) std::fill_n(stripes.rgb.begin() + 3 * i, 3, i % 2 == 0 ? 255 : 0);
  const media::Frames small = fill_frames({"stripes", stripes}, 0, 1, 8, 8);
  for (const uint8_t value : small.rgb) EXPECT_NEAR(value, 127, 12);
}

TEST(Conditioning, AStripThatWouldBeCutAwayIsRefused) {
  EXPECT_THROW(fill_frames({"strip", painted(1, 2, 500)}, 0, 1, 64, 64), UsageError);
}

TEST(Conditioning, LatentFramesHoldWhatTheChunksLeave) {
  EXPECT_EQ(latent_cover(17, 17, 4), (std::vector<int64_t>{1, 4, 4, 4, 4}));
  EXPECT_EQ(latent_cover(20, 17, 4), (std::vector<int64_t>{1, 4, 4, 4, 4, 3}));
  EXPECT_EQ(latent_cover(9, 0, 4), (std::vector<int64_t>{1, 4, 4}));
  EXPECT_EQ(latent_cover(9, 6, 2), (std::vector<int64_t>{2, 2, 2, 1, 2}));
  EXPECT_EQ(latent_cover(1, 17, 4), (std::vector<int64_t>{1}));
}

TEST(Conditioning, SpansAreWholeLatentFrames) {
  const auto cover = latent_cover(51, 17, 4);
  EXPECT_EQ(head_span(cover, 17), (Span{17, 5}));
  EXPECT_EQ(head_span(cover, 16), (Span{13, 4}));
  EXPECT_EQ(tail_span(cover, 17), (Span{17, 5}));
  EXPECT_EQ(tail_span(cover, 16), (Span{16, 4}));
  EXPECT_EQ(head_span(cover, 0), Span{});
  EXPECT_EQ(tail_span(cover, 3), Span{});
}

TEST(Conditioning, FilesThatAreNoPictureAreNamed) {
  const TempFolder folder;
  const auto says = [](const std::filesystem::path& path) -> std::string {
    try {
      load_reference(path);
    } catch (const Error& error) {
      return std::string(error.what()) + " | " + error.hint();
    }
    return {};
  };
  std::ofstream(folder.path() / "x.jpg", std::ios::binary) << "\xff\xd8\xff\xe0 whatever";
  EXPECT_NE(says(folder.path() / "x.jpg").find("ffmpeg -i"), std::string::npos) << says(folder.path() / "x.jpg");
  std::ofstream(folder.path() / "x.png", std::ios::binary) << "\x89PNG and nothing";
  EXPECT_NE(says(folder.path() / "x.png").find("x.png"), std::string::npos);
  EXPECT_NE(says(folder.path() / "absent.png").find("absent.png"), std::string::npos);
}

TEST(Conditioning, ListsOfFilesAreReadInOrder) {
  const TempFolder folder;
  media::write_png(folder.path() / "a.png", painted(1, 3, 4));
  media::write_png(folder.path() / "b.png", painted(1, 5, 6));
  const auto both = load_references((folder.path() / "a.png").string() + ";" + (folder.path() / "b.png").string());
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0]->frames.height, 3);
  EXPECT_EQ(both[1]->frames.height, 5);
  EXPECT_NE(fingerprint(both[0]->frames), fingerprint(both[1]->frames));
  EXPECT_TRUE(load_references("").empty());
}

}  // namespace
}  // namespace kinora::video
