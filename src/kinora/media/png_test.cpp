#include "kinora/media/png.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/media/test_clips.h"

namespace kinora::media {
namespace {

TEST(Png, PicturesOfAnySizeComeBackExactly) {
  for (const auto& [height, width] : {std::pair{1, 1}, {17, 33}, {1, 97}, {64, 3}}) {
    const Frames clip = noise_clip(2, height, width);
    const Picture got = decode_png(encode_png(clip, 1));
    ASSERT_EQ(got.frames.height, height);
    ASSERT_EQ(got.frames.width, width);
    EXPECT_TRUE(std::equal(got.frames.rgb.begin(), got.frames.rgb.end(), clip.frame(1)));
    EXPECT_TRUE(got.text.empty());
  }
}

TEST(Png, TextSurvivesWithNewlinesAndUnicode) {
  const TextEntries text = {{"Title", "plain\nsecond line"},
                            {"Comment", "caf\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x8e\xac"},
                            {"Long", std::string(100000, 'x')}};
  EXPECT_EQ(decode_png(encode_png(make_frames(1, 2, 2), 0, text)).text, text);
}

TEST(Png, TextThatIsNoUtf8IsMended) {
  const Picture got = decode_png(encode_png(make_frames(1, 2, 2), 0, {{"Title", std::string("a\xff\0b", 4)}}));
  EXPECT_EQ(got.text.at(0).second, "a\xef\xbf\xbd b");
}

TEST(Png, AFileCutAnywhereIsRefused) {
  const std::vector<uint8_t> bytes = encode_png(noise_clip(1, 5, 7), 0, {{"Title", "t"}, {"Comment", "\xc3\xa9"}});
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(decode_png(std::span(bytes).first(length)), DataError) << length;
  }
}

TEST(Png, AFlippedByteIsRefused) {
  std::vector<uint8_t> bytes = encode_png(smooth_clip(1, 9, 9), 0, {{"Title", "some text"}});
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= 0x10;
    EXPECT_THROW(decode_png(bytes), DataError) << i;
    bytes[i] ^= 0x10;
  }
}

TEST(Png, APictureOverTheLimitsIsRefusedBeforeItIsAllocated) {
  std::vector<uint8_t> bytes = encode_png(make_frames(1, 4, 4));
  const auto with_size = [&](uint32_t width, uint32_t height) {
    std::vector<uint8_t> out = bytes;
    for (size_t i = 0; i < 4; ++i) {
      out[16 + i] = static_cast<uint8_t>(width >> (24 - 8 * i));
      out[20 + i] = static_cast<uint8_t>(height >> (24 - 8 * i));
    }
    const uint32_t sum = crc32(std::as_bytes(std::span(out).subspan(12, 17)));
    for (size_t i = 0; i < 4; ++i) out[29 + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
    return out;
  };
  EXPECT_NO_THROW(decode_png(with_size(4, 4)));
  EXPECT_THROW(decode_png(with_size(8193, 1)), DataError);
  EXPECT_THROW(decode_png(with_size(1, 8193)), DataError);
  EXPECT_THROW(decode_png(with_size(8192, 8192)), DataError);
  EXPECT_THROW(decode_png(with_size(0, 4)), DataError);
}

TEST(Png, AChunkThatClaimsMoreThanTheFileHasIsRefusedBeforeItIsAllocated) {
  std::vector<uint8_t> bytes = encode_png(make_frames(1, 4, 4), 0, {{"Title", "text"}});
  bytes[33] = 0x6e;  // the length of the text chunk: 1.8 GB
  try {
    decode_png(bytes);
    ADD_FAILURE() << "accepted";
  } catch (const DataError& error) {  // our own words: libpng, which allocates first, never saw it
    EXPECT_NE(std::string(error.what()).find("the PNG ends too early"), std::string::npos) << error.what();
  }
  EXPECT_THROW(decode_png(encode_png(make_frames(1, 4, 4), 0, {{"Title", std::string(3 << 20, 'x')}})), DataError);
}

TEST(Png, CallersMistakesAreUsageErrors) {
  const Frames clip = make_frames(1, 2, 2);
  EXPECT_THROW(encode_png(clip, 1), UsageError);
  EXPECT_THROW(encode_png(clip, -1), UsageError);
  EXPECT_THROW(encode_png(Frames{}), UsageError);
  EXPECT_THROW(encode_png(clip, 0, {{"", "x"}}), UsageError);
  EXPECT_THROW(encode_png(clip, 0, {{std::string(80, 'k'), "x"}}), UsageError);
  Frames torn = clip;
  torn.rgb.pop_back();
  EXPECT_THROW(encode_png(torn), UsageError);
}

TEST(Png, FilesAreWrittenWholeAndReadBack) {
  const TempFolder folder;
  const Frames clip = noise_clip(1, 3, 5);
  write_png(folder / "a.png", clip);
  EXPECT_EQ(read_png(folder / "a.png").frames.rgb, clip.rgb);
  EXPECT_EQ(folder.count(), 1);
  EXPECT_THROW(write_png(folder / "none/a.png", clip), ResourceError);
  EXPECT_THROW(read_png(folder / "b.png"), UsageError);
  write_file(folder / "text.png", "hello");
  EXPECT_THROW(read_png(folder / "text.png"), DataError);
}

}  // namespace
}  // namespace kinora::media
