#include "kinora/media/output.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdlib>

#include "kinora/base/error.h"
#include "kinora/media/png.h"
#include "kinora/media/test_clips.h"

namespace kinora::media {
namespace {

bool has_ffmpeg() { return !find_program("ffmpeg").empty() && !find_program("ffprobe").empty(); }

TEST(Output, TheNameDecidesTheKind) {
  const TempFolder folder;
  EXPECT_EQ(output_kind("a.mp4"), OutputKind::kMp4);
  EXPECT_EQ(output_kind("A.GIF"), OutputKind::kGif);
  EXPECT_EQ(output_kind("x/a.png"), OutputKind::kPng);
  EXPECT_EQ(output_kind("x/a_%03d.png"), OutputKind::kPngPattern);
  EXPECT_EQ(output_kind("x/a%d.png"), OutputKind::kPngPattern);
  EXPECT_EQ(output_kind("x/100%.png"), OutputKind::kPng);
  EXPECT_EQ(output_kind("new/"), OutputKind::kPngFolder);
  EXPECT_EQ(output_kind(folder.path()), OutputKind::kPngFolder);
  for (const char* name : {"", "clip", "a.avi", "a.mp4.txt", ".mp4"}) {
    try {
      output_kind(name);
      ADD_FAILURE() << name;
    } catch (const UsageError& error) {
      EXPECT_NE(error.hint().find(".gif"), std::string::npos);
    }
  }
}

TEST(Output, ExactKindsComeBackWithTheirMetadata) {
  const TempFolder folder;
  Frames clip = make_frames(3, 17, 33, 12.0);
  for (size_t i = 0; i < clip.rgb.size(); ++i) clip.rgb[i] = static_cast<uint8_t>(i / 700 * 40);
  Metadata metadata;
  metadata.prompt = "line one\nline two \xe6\xbc\xa2";
  metadata.seed = 42;
  metadata.settings = R"({"steps":3})";
  for (const char* name : {"a.gif", "frames/", "p_%02d.png"}) {
    check_output(folder / name);
    save_clip(folder / name, clip, metadata);
    const Clip got = load_clip(folder / name);
    EXPECT_EQ(largest_difference(got.frames, clip), 0) << name;
    EXPECT_EQ(got.frames.fps, 12.0) << name;
    EXPECT_EQ(got.metadata.prompt, metadata.prompt) << name;
    EXPECT_EQ(got.metadata.seed, metadata.seed) << name;
    EXPECT_EQ(got.metadata.settings, metadata.settings) << name;
  }
  EXPECT_EQ(folder.count(), 1 + 1 + 3);
  EXPECT_EQ(read_png(folder / "frames/frame_0000.png").text.at(0).second, metadata.prompt);
}

TEST(Output, Mp4GoesThroughTheSameDoor) {
  if (!has_ffmpeg()) GTEST_SKIP() << "ffmpeg is not installed";
  const TempFolder folder;
  Metadata metadata;
  metadata.prompt = "a ball";
  save_clip(folder / "a.mp4", smooth_clip(3, 17, 33, 8.0), metadata);
  std::filesystem::rename(folder / "a.mp4", folder / "really.gif");
  const Clip got = load_clip(folder / "really.gif");
  EXPECT_EQ(got.frames.frames, 3);
  EXPECT_EQ(got.frames.height, 17);
  EXPECT_EQ(got.frames.width, 33);
  EXPECT_EQ(got.frames.fps, 8.0);
  EXPECT_EQ(got.metadata.prompt, "a ball");
}

TEST(Output, OnePictureIsOneFrame) {
  const TempFolder folder;
  save_clip(folder / "a.png", noise_clip(1, 1, 1));
  EXPECT_EQ(load_clip(folder / "a.png").frames.frames, 1);
  EXPECT_THROW(check_output_size(folder / "b.png", 2, 1, 1), UsageError);
  EXPECT_THROW(save_clip(folder / "b.png", noise_clip(2, 1, 1)), UsageError);
  EXPECT_NO_THROW(check_output(folder / "b.png"));
}

TEST(Output, OnlyAGifHasAMostOfFrames) {
  for (const char* name : {"a.mp4", "a_%d.png", "a/"}) EXPECT_NO_THROW(check_output_size(name, 816, 720, 1280)) << name;
  EXPECT_THROW(check_output_size("a.gif", 816, 720, 1280), UsageError);
  EXPECT_THROW(check_output_size("a.gif", 1025, 1, 1), UsageError);
  EXPECT_NO_THROW(check_output_size("a.gif", 51, 480, 854));
  EXPECT_THROW(check_output_size("a.mp4", 1, 16, 8193), UsageError);
}

TEST(Output, FoldersThatCannotBeWrittenAreRefusedBeforeTheWork) {
  const TempFolder folder;
  write_file(folder / "file", "x");
  EXPECT_THROW(check_output(folder / "none/a.gif"), UsageError);
  EXPECT_THROW(check_output(folder / "none/sub/"), UsageError);
  EXPECT_THROW(check_output(folder / "file/a.gif"), UsageError);
  EXPECT_THROW(check_output(folder / "file/"), UsageError);
  EXPECT_THROW(check_output("/proc/a.gif"), ResourceError);  // not even root can
  EXPECT_THROW(check_output("/proc/"), ResourceError);
  std::filesystem::create_directory(folder / "dir.mp4");
  EXPECT_NO_THROW(check_output(folder / "dir.mp4"));  // a folder of pictures, whatever its name
  check_output(folder / "a.gif");
  EXPECT_EQ(folder.count(), 2);
}

TEST(Output, OldPicturesAreNotMixedWithNewOnes) {
  const TempFolder folder;
  save_clip(folder / "f/", noise_clip(3, 2, 2));
  EXPECT_THROW(check_output(folder / "f/"), UsageError);
  save_clip(folder / "p%d.png", noise_clip(3, 2, 2));
  EXPECT_THROW(save_clip(folder / "p%d.png", noise_clip(2, 2, 2)), UsageError);
  EXPECT_NO_THROW(save_clip(folder / "p%d.png", noise_clip(3, 2, 2)));
}

TEST(Output, MissingFfmpegIsFoundBeforeTheWork) {
  const TempFolder folder;
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", folder.path().c_str(), 1);
  EXPECT_THROW(check_output(folder / "a.mp4"), ResourceError);
  EXPECT_NO_THROW(check_output(folder / "a.gif"));
  EXPECT_NO_THROW(check_output(folder / "out/"));
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(folder.count(), 0);
}

TEST(Output, AFullDiskLeavesNothing) {
  const TempFolder folder;
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{5000, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  Frames clip = make_frames(4, 64, 64);  // three frames fit, the last does not
  const Frames noise = noise_clip(1, 64, 64);
  std::copy(noise.rgb.begin(), noise.rgb.end(), clip.frame(3));
  for (const char* name : {"a.gif", "frames/", "p%d.png"})
    EXPECT_THROW(save_clip(folder / name, clip), ResourceError) << name;
  EXPECT_EQ(folder.count(), 0);
  // Old pictures stay all of them: none is of the new clip.
  const Frames before = make_frames(4, 32, 32);
  save_clip(folder / "p%d.png", before);
  EXPECT_THROW(save_clip(folder / "p%d.png", clip), ResourceError);
  EXPECT_EQ(load_clip(folder / "p%d.png").frames.rgb, before.rgb);
  ::setrlimit(RLIMIT_FSIZE, &old);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(folder.count(), 4);
}

TEST(Output, WhatIsNoClipIsRefused) {
  const TempFolder folder;
  write_file(folder / "a.mp4", "RIFF....AVI LIST");
  write_file(folder / "empty.gif", "");
  EXPECT_THROW(load_clip(folder / "a.mp4"), DataError);
  EXPECT_THROW(load_clip(folder / "empty.gif"), DataError);
  EXPECT_THROW(load_clip(folder / "none.gif"), UsageError);
  EXPECT_THROW(load_clip(folder / "none_%d.png"), UsageError);
  EXPECT_THROW(load_clip(folder.path()), UsageError);
  write_png(folder / "0.png", noise_clip(1, 2, 2));
  write_png(folder / "1.png", noise_clip(1, 2, 3));
  EXPECT_THROW(load_clip(folder.path()), DataError);
  EXPECT_THROW(save_clip(folder / "x.gif", Frames{}), UsageError);
}

TEST(Output, TooManyPicturesAreRefusedBeforeAllAreRead) {
  const TempFolder folder;
  const Frames picture = noise_clip(1, 2, 2);
  write_png(folder / "0000.png", picture);
  for (int i = 1; i <= 1024; ++i) write_file(folder / (std::to_string(10000 + i) + ".png"), "not read");
  try {
    load_clip(folder.path());
    FAIL() << "1025 pictures";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("1025 frames"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace kinora::media
