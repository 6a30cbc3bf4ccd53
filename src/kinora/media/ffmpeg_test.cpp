#include "kinora/media/ffmpeg.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdlib>
#include <random>

#include "kinora/base/error.h"
#include "kinora/media/metrics.h"
#include "kinora/media/test_clips.h"

namespace kinora::media {
namespace {

class Mp4 : public testing::Test {
 protected:
  void SetUp() override {
    if (find_program("ffmpeg").empty() || find_program("ffprobe").empty()) GTEST_SKIP() << "ffmpeg is not installed";
  }
  void save(const std::filesystem::path& path, const Frames& clip, const Metadata& metadata = {},
            VideoOptions options = {}) {
    options.fps = clip.fps;
    VideoWriter writer(path, clip.height, clip.width, options, metadata);
    writer.write(clip);
    writer.commit();
  }
  TempFolder folder;
};

/// Files may have so many bytes while it lives; a write beyond is an error and not a signal.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  sighandler_t handler_;
};

/// PATH is this while it lives.
class PathVariable {
 public:
  explicit PathVariable(const std::string& value) : old_(std::getenv("PATH")) { ::setenv("PATH", value.c_str(), 1); }
  ~PathVariable() { ::setenv("PATH", old_.c_str(), 1); }
  PathVariable(const PathVariable&) = delete;
  PathVariable& operator=(const PathVariable&) = delete;

 private:
  std::string old_;
};

TEST_F(Mp4, AClipComesBackAlikeWithSizeRateAndCount) {
  const Frames clip = smooth_clip(17, 64, 96, 12.5);
  save(folder / "a.mp4", clip);
  const Video got = read_video(folder / "a.mp4");
  ASSERT_EQ(got.frames.frames, 17);
  EXPECT_EQ(got.frames.fps, 12.5);
  EXPECT_GT(compare_clips(clip, got.frames).psnr_mean, 26);
  EXPECT_EQ(folder.count(), 1);
}

TEST_F(Mp4, ColoursComeBack) {
  for (const std::array<uint8_t, 3>& colour :
       {std::array<uint8_t, 3>{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}, {12, 130, 77}}) {
    Frames clip = make_frames(3, 32, 32);
    for (size_t i = 0; i < clip.rgb.size(); ++i) clip.rgb[i] = colour[i % 3];
    save(folder / "a.mp4", clip);
    EXPECT_LE(largest_difference(read_video(folder / "a.mp4").frames, clip), 4);
  }
}

TEST_F(Mp4, OddSizesComeBackWithTheirSize) {
  for (const auto& [height, width] : {std::pair{1, 1}, {17, 33}, {18, 33}, {17, 32}}) {
    const Frames clip = smooth_clip(2, height, width);
    save(folder / "odd.mp4", clip);
    const Video got = read_video(folder / "odd.mp4");
    EXPECT_EQ(got.frames.height, height);
    EXPECT_EQ(got.frames.width, width);
    EXPECT_EQ(got.frames.frames, 2);
    const VideoInfo info = probe_video(folder / "odd.mp4");
    EXPECT_EQ(info.height, (height + 1) / 2 * 2);
    EXPECT_EQ(info.width, (width + 1) / 2 * 2);
  }
}

TEST_F(Mp4, MetadataComesBack) {
  Metadata metadata;
  metadata.prompt = "a \"red\" ball = x; # \\ bounces\nsecond line \xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x8e\xac " +
                    std::string(100000, 'w');
  metadata.model = "STDiT3";
  metadata.seed = 18446744073709551615u;
  metadata.settings = R"({"steps":30})";
  save(folder / "m.mp4", smooth_clip(1, 16, 16), metadata);
  const Metadata got = read_video(folder / "m.mp4").metadata;
  EXPECT_EQ(got.prompt, metadata.prompt);
  EXPECT_EQ(got.model, "STDiT3");
  EXPECT_EQ(got.seed, metadata.seed);
  EXPECT_EQ(got.settings, metadata.settings);
  EXPECT_EQ(got.frames, 1);
}

TEST_F(Mp4, FramesMayArriveInBatches) {
  const Frames clip = smooth_clip(9, 32, 48);
  VideoWriter writer(folder / "a.mp4", 32, 48);
  for (int64_t f = 0; f < 9; f += 4) {
    Frames batch = make_frames(std::min<int64_t>(4, 9 - f), 32, 48);
    std::copy_n(clip.frame(f), batch.rgb.size(), batch.rgb.data());
    writer.write(batch);
  }
  EXPECT_EQ(writer.num_frames(), 9);
  writer.commit();
  EXPECT_THROW(writer.commit(), UsageError);
  EXPECT_THROW(writer.write(clip), UsageError);
  EXPECT_GT(compare_clips(clip, read_video(folder / "a.mp4").frames).psnr_mean, 26);
}

TEST_F(Mp4, TheSameClipGivesTheSameFile) {
  const Frames clip = smooth_clip(5, 32, 32);
  save(folder / "a.mp4", clip);
  save(folder / "b.mp4", clip);
  EXPECT_EQ(read_file(folder / "a.mp4", 1 << 20), read_file(folder / "b.mp4", 1 << 20));
}

TEST_F(Mp4, ACancelledClipLeavesTheOldFileAndNoTemporary) {
  write_file(folder / "a.mp4", "old");
  {
    VideoWriter writer(folder / "a.mp4", 64, 64);
    writer.write(noise_clip(3, 64, 64));
    EXPECT_EQ(folder.count(), 2);
  }
  EXPECT_EQ(folder.count(), 1);
  EXPECT_EQ(read_file(folder / "a.mp4", 100), "old");
}

TEST_F(Mp4, AFullDiskIsAResourceErrorAndLeavesNothing) {
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{20000}, rlim_t{200000}}) {
    const FileSizeLimit guard(limit);
    EXPECT_THROW(save(folder / "a.mp4", noise_clip(40, 128, 128)), ResourceError) << limit;
    EXPECT_EQ(folder.count(), 0) << limit;
  }
}

TEST_F(Mp4, AChildThatDiesIsAResourceErrorWithItsLastWords) {
  const TempFolder programs;
  write_file(programs / "ffmpeg",
             "#!/bin/sh\necho first >&2\necho 'no such codec' >&2\necho 'Conversion failed!' >&2\nexit 3\n");
  write_file(programs / "ffprobe", "#!/bin/sh\nexit 1\n");
  for (const char* name : {"ffmpeg", "ffprobe"})
    std::filesystem::permissions(programs / name, std::filesystem::perms::owner_all);
  const PathVariable guard(programs.path().string());
  try {
    VideoWriter writer(folder / "a.mp4", 256, 256);
    for (int i = 0; i < 50; ++i) writer.write(noise_clip(4, 256, 256));  // must not end in SIGPIPE
    FAIL() << "the child does not read";
  } catch (const ResourceError& error) {
    EXPECT_NE(std::string(error.what()).find("no such codec"), std::string::npos) << error.what();
  }
  EXPECT_EQ(folder.count(), 0);
}

TEST_F(Mp4, AFfmpegThatLiesIsFoundOut) {
  const TempFolder programs;
  write_file(programs / "ffmpeg", "#!/bin/sh\n/bin/cat > /dev/null\nexit 0\n");
  std::filesystem::permissions(programs / "ffmpeg", std::filesystem::perms::owner_all);
  const PathVariable guard(programs.path().string() + ":" + std::getenv("PATH"));
  EXPECT_THROW(save(folder / "a.mp4", smooth_clip(2, 16, 16)), ResourceError);
  EXPECT_EQ(folder.count(), 0);
}

TEST_F(Mp4, MissingFfmpegSaysHowToGetItAndWhatWorksWithout) {
  save(folder / "a.mp4", smooth_clip(1, 16, 16));
  const PathVariable guard(folder.path().string());
  try {
    require_ffmpeg();
    FAIL();
  } catch (const ResourceError& error) {
    EXPECT_NE(error.hint().find("apt-get install ffmpeg"), std::string::npos);
    EXPECT_NE(error.hint().find(".gif"), std::string::npos);
  }
  EXPECT_THROW(VideoWriter(folder / "b.mp4", 16, 16), ResourceError);
  EXPECT_THROW(read_video(folder / "a.mp4"), ResourceError);
  EXPECT_EQ(folder.count(), 1);
}

TEST_F(Mp4, AnFfmpegWithoutTheEncoderOrTooOldIsNamed) {
  require_h264();
  EXPECT_FALSE(ffmpeg_version().empty());
  save(folder / "a.mp4", smooth_clip(1, 16, 16));
  const TempFolder programs;
  write_file(programs / "ffmpeg",
             "#!/bin/sh\necho \"Codec 'libx264' is not recognized by FFmpeg.\"\n"
             "echo \"Unrecognized option 'fps_mode'.\" >&2\n"
             "echo 'Error splitting the argument list: Option not found' >&2\n");
  std::filesystem::permissions(programs / "ffmpeg", std::filesystem::perms::owner_all);
  const PathVariable guard(programs.path().string() + ":" + std::getenv("PATH"));
  require_ffmpeg();
  EXPECT_THROW(ffmpeg_version(), ResourceError);
  EXPECT_THROW(require_h264(), ResourceError);
  EXPECT_THROW(read_video(folder / "a.mp4"), ResourceError);
}

TEST_F(Mp4, AClipMayBeLongerThanReadersTake) {
  save(folder / "a.mp4", make_frames(1025, 16, 16));
  EXPECT_EQ(probe_video(folder / "a.mp4").frames, 1025);
  EXPECT_THROW(read_video(folder / "a.mp4"), DataError);
}

TEST_F(Mp4, WhatCannotBeAskedForIsAUsageError) {
  const auto path = folder / "a.mp4";
  EXPECT_THROW(VideoWriter(path, 0, 16), UsageError);
  EXPECT_THROW(VideoWriter(path, 16, 8193), UsageError);
  EXPECT_THROW(VideoWriter(path, 16, 16, {.fps = 0}), UsageError);
  EXPECT_THROW(VideoWriter(path, 16, 16, {.crf = 52}), UsageError);
  EXPECT_THROW(VideoWriter(path, 16, 16, {.preset = "-x"}), UsageError);
  VideoWriter writer(path, 16, 16);
  EXPECT_THROW(writer.write(make_frames(1, 16, 18)), UsageError);
  EXPECT_THROW(writer.commit(), UsageError);  // no frame
  EXPECT_THROW(VideoWriter(folder / "none/a.mp4", 16, 16), ResourceError);
}

TEST_F(Mp4, NamesAreNeverMoreThanNames) {
  for (const char* name : {"-y.mp4", "a b;$(touch x)'\".mp4", "concat:a|b.mp4", "%03d.mp4", "caf\xc3\xa9.mp4"}) {
    save(folder / name, smooth_clip(1, 16, 16));
    EXPECT_EQ(read_video(folder / name).frames.frames, 1) << name;
  }
  EXPECT_EQ(folder.count(), 5);
}

TEST_F(Mp4, DamagedFilesAreRefused) {
  save(folder / "a.mp4", noise_clip(6, 64, 64));
  const std::string bytes = read_file(folder / "a.mp4", 1 << 24);
  for (const size_t length : {size_t{0}, size_t{11}, size_t{40}, size_t{600}, bytes.size() / 2, bytes.size() - 2000}) {
    write_file(folder / "cut.mp4", bytes.substr(0, length));
    EXPECT_THROW(read_video(folder / "cut.mp4"), DataError) << length;
  }
  write_file(folder / "list.mp4", "ffconcat version 1.0\nfile a.mp4\n");
  EXPECT_THROW(read_video(folder / "list.mp4"), DataError);
  EXPECT_THROW(read_video(folder / "none.mp4"), UsageError);
  EXPECT_THROW(read_video(folder.path()), UsageError);
}

TEST_F(Mp4, FlippedBytesGiveAClipOfItsLimitsOrADataError) {
  save(folder / "a.mp4", noise_clip(3, 32, 32));
  const std::string whole = read_file(folder / "a.mp4", 1 << 24);
  const size_t header = whole.find("moov");
  ASSERT_NE(header, std::string::npos);
  std::mt19937 random(3);
  for (int i = 0; i < 12; ++i) {
    std::string bytes = whole;
    bytes[header + random() % 800] ^= static_cast<char>(1 + random() % 255);
    write_file(folder / "flipped.mp4", bytes);
    try {
      const Video got = read_video(folder / "flipped.mp4");
      check(got.frames);
      EXPECT_LE(got.frames.frames, 3);
    } catch (const DataError&) {
    }
  }
}

TEST(Process, OverItsLimitOfTimeOrMemoryEnds) {
  ProcessOptions options;
  options.max_cpu_seconds = 1;
  EXPECT_GT(Process("/bin/sh", {"-c", "while :; do :; done"}, options).wait(), 128);
  options = {.max_memory_bytes = uint64_t{64} << 20};
  EXPECT_EQ(Process("/bin/sh", {"-c", "x=$(head -c 1000 /dev/zero | tr '\\0' a)"}, options).wait(), 0);
  EXPECT_NE(Process("/bin/sh", {"-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' a)"}, options).wait(), 0);
}

TEST(Process, GivesInputOutputStatusAndLastLine) {
  ProcessOptions options;
  options.write_input = options.read_output = options.has_extra_input = true;
  options.extra_input = "extra";
  Process process("/bin/sh", {"-c", "cat <&3; cat; echo why >&2; exit 7"}, options);
  const std::string text = "hello";
  // The child's cat ends with its input, which wait() would end; a small answer fits the pipe meanwhile.
  EXPECT_TRUE(process.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  std::string got;
  std::array<uint8_t, 64> block;
  while (got.size() < 10) {
    const size_t length = process.read(block);
    ASSERT_GT(length, 0u);
    got.append(reinterpret_cast<const char*>(block.data()), length);
  }
  EXPECT_EQ(got, "extrahello");
  EXPECT_EQ(process.wait(), 7);
  EXPECT_EQ(process.last_error_line(), "why");
}

TEST(Process, ReportsSignalsAndWhatCannotStart) {
  EXPECT_EQ(Process("/bin/sh", {"-c", "kill -9 $$"}, {}).wait(), 128 + 9);
  EXPECT_THROW(Process("/nonexistent/program", {}, {}), ResourceError);
  EXPECT_TRUE(find_program("no-such-program-anywhere").empty());
  EXPECT_FALSE(find_program("sh").empty());
}

TEST(Process, IsKilledWhenNobodyWants) { const Process sleeper("/bin/sh", {"-c", "sleep 1000"}, {}); }

}  // namespace
}  // namespace kinora::media
