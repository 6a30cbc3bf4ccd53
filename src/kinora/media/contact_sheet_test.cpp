#include "kinora/media/contact_sheet.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/media/test_clips.h"
#include "kinora/media/text_overlay.h"

namespace kinora::media {
namespace {

Frames white(int64_t height, int64_t width) {
  Frames frames = make_frames(1, height, width);
  std::fill(frames.rgb.begin(), frames.rgb.end(), uint8_t{255});
  return frames;
}

int64_t ink(const Frames& frames) { return std::count(frames.rgb.begin(), frames.rgb.end(), uint8_t{0}) / 3; }

TEST(Text, EveryPrintableCharacterHasItsOwnPicture) {
  std::vector<std::vector<uint8_t>> seen;
  for (char c = 0x20; c < 0x7f; ++c) {
    Frames frames = white(7, 5);
    draw_text(frames, 0, 0, 0, std::string(1, c));
    EXPECT_EQ(ink(frames) == 0, c == ' ') << c;
    EXPECT_EQ(std::count(seen.begin(), seen.end(), frames.rgb), 0) << c;
    seen.push_back(frames.rgb);
  }
}

TEST(Text, IsMeasuredCutAtTheEdgeAndScaled) {
  EXPECT_EQ(text_width_px(""), 0);
  EXPECT_EQ(text_width_px("ab", 2), 22);
  EXPECT_EQ(text_width_px("\xc3\xa9"), 5);
  Frames frames = white(9, 9);
  for (const int64_t at : {-20, -3, 0, 5, 30}) EXPECT_NO_THROW(draw_text(frames, 0, at, at, "Wide text", {.scale = 3}));
  Frames one = white(7, 5), two = white(14, 10);
  draw_text(one, 0, 0, 0, "A");
  draw_text(two, 0, 0, 0, "A", {.scale = 2});
  EXPECT_EQ(ink(two), 4 * ink(one));
  EXPECT_THROW(draw_text(one, 1, 0, 0, "A"), UsageError);
  EXPECT_THROW(draw_text(one, 0, 0, 0, "A", {.scale = 0}), UsageError);
}

TEST(Text, IsWrappedAtSpacesAndLongWordsAreCut) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(wrap_text("a red ball bounces", 8 * 6), (Lines{"a red", "ball", "bounces"}));
  EXPECT_EQ(wrap_text("abcdefgh ij", 3 * 6), (Lines{"abc", "def", "gh", "ij"}));
  EXPECT_EQ(wrap_text("  ", 100), Lines{});
  EXPECT_EQ(wrap_text("ab", 0), (Lines{"a", "b"}));
}

TEST(ContactSheet, ShowsFirstAndLastFrameOfEachClip) {
  const Frames clip = noise_clip(7, 5, 3);
  const Frames sheet = contact_sheet({clip, clip, clip}, {}, {.frames_per_clip = 3, .clips_per_row = 2, .gap = 4});
  EXPECT_EQ(sheet.width, 4 + 2 * (3 * 3 + 2 * 2 + 4));
  EXPECT_EQ(sheet.height, 4 + 2 * (5 + 4));
  const auto pixel = [&](int64_t y, int64_t x) { return sheet.frame(0) + 3 * (y * sheet.width + x); };
  EXPECT_TRUE(std::equal(pixel(4, 4), pixel(4, 4) + 9, clip.frame(0)));
  EXPECT_TRUE(std::equal(pixel(4, 4 + 5), pixel(4, 4 + 5) + 9, clip.frame(3)));
  EXPECT_TRUE(std::equal(pixel(13, 4 + 10), pixel(13, 4 + 10) + 9, clip.frame(6)));
}

TEST(ContactSheet, CaptionsAddLines) {
  const Frames clip = noise_clip(2, 16, 16);
  const Frames plain = contact_sheet({clip}), titled = contact_sheet({clip}, {"a red ball bounces"});
  EXPECT_GT(titled.height, plain.height + 14);
  EXPECT_EQ(titled.width, plain.width);
}

TEST(ContactSheet, MistakesAreUsageErrors) {
  const Frames clip = noise_clip(2, 4, 4);
  EXPECT_THROW(contact_sheet({}), UsageError);
  EXPECT_THROW(contact_sheet({clip, noise_clip(2, 4, 5)}), UsageError);
  EXPECT_THROW(contact_sheet({clip}, {"a", "b"}), UsageError);
  EXPECT_THROW(contact_sheet({clip}, {}, {.scale = 0}), UsageError);
  EXPECT_THROW(contact_sheet({clip}, {}, {.scale = 5000}), UsageError);
}

}  // namespace
}  // namespace kinora::media
