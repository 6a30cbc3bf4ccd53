#include "kinora/media/gif.h"

#include <gtest/gtest.h>

#include <string>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/media/metrics.h"
#include "kinora/media/palette.h"
#include "kinora/media/test_clips.h"

namespace kinora::media {
namespace {

/// At most 7 colours.
Frames few_colours(int64_t frames, int64_t height, int64_t width) {
  Frames clip = noise_clip(frames, height, width);
  for (size_t i = 0; i < clip.rgb.size(); i += 3) {
    const int colour = clip.rgb[i] % 7;
    clip.rgb[i] = static_cast<uint8_t>(colour * 30);
    clip.rgb[i + 1] = static_cast<uint8_t>(255 - colour);
    clip.rgb[i + 2] = static_cast<uint8_t>(colour * colour);
  }
  return clip;
}

TEST(Gif, ClipsOfFewColoursComeBackExactly) {
  for (const auto& [frames, height, width] : {std::array{1, 1, 1}, {3, 17, 33}, {2, 200, 301}, {5, 1, 2}}) {
    const Frames clip = few_colours(frames, height, width);
    for (const bool per_frame : {false, true}) {
      const Gif got = decode_gif(encode_gif(clip, "note", {.palette_per_frame = per_frame}));
      EXPECT_EQ(largest_difference(got.frames, clip), 0) << height << "x" << width;
      EXPECT_EQ(got.comment, "note");
    }
  }
}

TEST(Gif, FullCodeTablesComeBackExactly) {
  // 256 colours of noise fill the table of 4096 codes many times over.
  Frames clip = noise_clip(2, 257, 255);
  for (size_t i = 0; i < clip.rgb.size(); i += 3) clip.rgb[i + 1] = clip.rgb[i + 2] = clip.rgb[i];
  EXPECT_EQ(largest_difference(decode_gif(encode_gif(clip)).frames, clip), 0);
}

TEST(Gif, RunsOfEveryLengthComeBackExactly) {
  for (int64_t width = 1; width < 700; width += 3) {
    Frames clip = make_frames(1, 2, width);
    for (int64_t x = 0; x < 3 * width; ++x)
      clip.rgb[static_cast<size_t>(x)] = static_cast<uint8_t>(x / 3 % 5 == 0 ? 255 : 0);
    ASSERT_EQ(largest_difference(decode_gif(encode_gif(clip)).frames, clip), 0) << width;
  }
}

TEST(Gif, ManyColoursComeBackAlike) {
  const Frames clip = smooth_clip(4, 65, 97);
  EXPECT_GT(compare_clips(clip, decode_gif(encode_gif(clip, {}, {.dither = false})).frames).psnr_mean, 33);
  EXPECT_GT(compare_clips(clip, decode_gif(encode_gif(clip)).frames).psnr_mean, 28);
  EXPECT_GT(compare_clips(clip, decode_gif(encode_gif(clip, {}, {.palette_per_frame = true, .dither = false})).frames)
                .psnr_mean,
            33);
}

TEST(Gif, TheRateIsKeptOverTheWholeClip) {
  for (const double fps : {24.0, 8.0, 7.5, 30.0, 50.0}) {
    Frames clip = few_colours(48, 4, 4);
    clip.fps = fps;
    EXPECT_NEAR(decode_gif(encode_gif(clip)).frames.fps, fps, 0.02 * fps);
  }
}

TEST(Gif, StillFramesCostAlmostNothing) {
  Frames clip = noise_clip(1, 64, 64);
  const size_t one = encode_gif(clip).size();
  const std::vector<uint8_t> frame = clip.rgb;
  for (clip.frames = 1; clip.frames < 20; ++clip.frames) clip.rgb.insert(clip.rgb.end(), frame.begin(), frame.end());
  EXPECT_LT(encode_gif(clip).size(), one + 20 * 40);
}

TEST(Gif, AFileCutAnywhereIsRefused) {
  const std::vector<uint8_t> bytes = encode_gif(few_colours(2, 5, 7), "note");
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(decode_gif(std::span(bytes).first(length)), DataError) << length;
  }
}

TEST(Gif, AFlippedByteGivesAPictureOrADataError) {
  std::vector<uint8_t> bytes = encode_gif(few_colours(3, 11, 13), "note");
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int flip : {0x01, 0x08, 0x80, 0xff}) {
      bytes[i] ^= static_cast<uint8_t>(flip);
      try {
        decode_gif(bytes);
      } catch (const DataError&) {
      }
      bytes[i] ^= static_cast<uint8_t>(flip);
    }
  }
}

/// A picture of a GIF made by hand: palette entries 0 (black), 1 (red), 2 (green), 3 (blue).
struct Part {
  uint8_t left, top, width, height, disposal;
  std::vector<int> entries;
  bool is_interlaced = false;
};

std::vector<uint8_t> gif_of(uint8_t width, uint8_t height, const std::vector<Part>& parts) {
  const std::string head = "GIF89a";
  std::vector<uint8_t> out(head.begin(), head.end());
  const auto add = [&out](std::initializer_list<int> bytes) {
    for (const int byte : bytes) out.push_back(static_cast<uint8_t>(byte));
  };
  add({width, 0, height, 0, 0x81, 0, 0, /*palette*/ 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255});
  for (const Part& part : parts) {
    add({0x21, 0xf9, 4, part.disposal << 2, 10, 0, 0, 0});
    add({0x2c, part.left, 0, part.top, 0, part.width, 0, part.height, 0, part.is_interlaced ? 0x40 : 0, 2});
    // A clear code (4) before each entry keeps the codes at 3 bits; 5 ends.
    uint32_t buffer = 0;
    int num_bits = 0;
    std::vector<uint8_t> data;
    const auto put = [&](int code) {
      buffer |= static_cast<uint32_t>(code) << num_bits;
      for (num_bits += 3; num_bits >= 8; num_bits -= 8, buffer >>= 8) data.push_back(static_cast<uint8_t>(buffer));
    };
    for (const int entry : part.entries) put(4), put(entry);
    put(5);
    data.push_back(static_cast<uint8_t>(buffer));
    add({static_cast<int>(data.size())});
    out.insert(out.end(), data.begin(), data.end());
    add({0});
  }
  add({0x3b});
  return out;
}

/// The colours of a frame as letters: k black, r, g, b.
std::string letters(const Frames& clip, int64_t frame) {
  std::string out;
  for (int64_t i = 0; i < clip.height * clip.width; ++i) {
    const uint8_t* pixel = clip.frame(frame) + 3 * i;
    out += pixel[0] != 0 ? 'r' : pixel[1] != 0 ? 'g' : pixel[2] != 0 ? 'b' : 'k';
  }
  return out;
}

TEST(Gif, PicturesThatAreTakenBackLeaveWhatViewersShow) {
  const Frames got = decode_gif(gif_of(3, 2,
                                       {{0, 0, 3, 2, 1, {1, 1, 1, 1, 1, 1}},
                                        {0, 0, 2, 1, 3, {2, 2}},  // then as before
                                        {1, 1, 2, 1, 2, {3, 3}},  // then cleared
                                        {0, 0, 1, 1, 0, {2}}}))
                         .frames;
  ASSERT_EQ(got.frames, 4);
  EXPECT_EQ(letters(got, 0), "rrrrrr");
  EXPECT_EQ(letters(got, 1), "ggrrrr");
  EXPECT_EQ(letters(got, 2), "rrrrbb");
  EXPECT_EQ(letters(got, 3), "grrrkk");
}

TEST(Gif, InterlacedRowsComeInOrder) {
  // Rows 0, 4, 2, 1, 3 of a picture of five.
  const Part part{0, 0, 1, 5, 0, {1, 2, 3, 0, 1}, true};
  EXPECT_EQ(letters(decode_gif(gif_of(1, 5, {part})).frames, 0), "rkbrg");
  for (const int64_t height : {2, 3, 8, 9, 17}) {
    Part tall{0, 0, 1, static_cast<uint8_t>(height), 0, {}, true};
    std::string want(static_cast<size_t>(height), ' ');
    for (const auto& [first, stride] : {std::pair{0, 8}, {4, 8}, {2, 4}, {1, 2}}) {
      for (int64_t y = first; y < height; y += stride) {
        tall.entries.push_back(static_cast<int>(y * y % 3));
        want[static_cast<size_t>(y)] = "krg"[y * y % 3];
      }
    }
    EXPECT_EQ(letters(decode_gif(gif_of(1, static_cast<uint8_t>(height), {tall})).frames, 0), want) << height;
  }
}

TEST(Gif, CallersMistakesAreUsageErrors) {
  EXPECT_THROW(encode_gif(Frames{}), UsageError);
  EXPECT_THROW(encode_gif(make_frames(1, 1, 8193)), UsageError);
  EXPECT_THROW(encode_gif(make_frames(1, 2, 2), {}, {.loops = -1}), UsageError);
}

TEST(Gif, FilesAreWrittenWholeAndReadBack) {
  const TempFolder folder;
  const Frames clip = few_colours(2, 6, 6);
  write_gif(folder / "a.gif", clip, std::string(1000, 'c'));
  const Gif got = read_gif(folder / "a.gif");
  EXPECT_EQ(got.frames.rgb, clip.rgb);
  EXPECT_EQ(got.comment, std::string(1000, 'c'));
  EXPECT_EQ(folder.count(), 1);
  EXPECT_THROW(write_gif(folder / "none/a.gif", clip), ResourceError);
}

TEST(Palette, IsExactUpTo256Colours) {
  std::vector<uint8_t> rgb;
  for (int i = 0; i < 256; ++i) rgb.insert(rgb.end(), {static_cast<uint8_t>(i), 7, 9});
  EXPECT_TRUE(Palette(rgb).is_exact());
  rgb.insert(rgb.end(), {1, 2, 3});
  EXPECT_FALSE(Palette(rgb).is_exact());
  EXPECT_LE(Palette(rgb).colours().size(), 256u);
}

}  // namespace
}  // namespace kinora::media
