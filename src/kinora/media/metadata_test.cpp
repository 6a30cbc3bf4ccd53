#include "kinora/media/metadata.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"

namespace kinora::media {
namespace {

TEST(Metadata, ComesBackFromJson) {
  Metadata metadata;
  metadata.prompt = "a \"red\" ball\nbounces \xc3\xa9\xe6\xbc\xa2";
  metadata.model = "STDiT3";
  metadata.seed = 18446744073709551615u;
  metadata.settings = R"({"steps":30,"guidance_scale":7.5})";
  metadata.frames = 17, metadata.height = 33, metadata.width = 1, metadata.fps = 7.5;
  const std::string json = to_json(metadata);
  EXPECT_TRUE(std::all_of(json.begin(), json.end(), [](char c) { return c >= 0x20 && c < 0x7f; }));
  const Metadata got = metadata_from_json(json);
  EXPECT_EQ(got.prompt, metadata.prompt);
  EXPECT_EQ(got.model, metadata.model);
  EXPECT_EQ(got.seed, metadata.seed);
  EXPECT_NE(got.settings.find("\"steps\":30"), std::string::npos);
  EXPECT_EQ(got.frames, 17);
  EXPECT_EQ(got.height, 33);
  EXPECT_EQ(got.width, 1);
  EXPECT_EQ(got.fps, 7.5);
  EXPECT_FALSE(metadata_from_json(to_json({})).seed.has_value());
}

TEST(Metadata, SettingsMustBeAnObject) {
  for (const char* settings : {"", "[1]", "{", "{} x", "{\"a\":1,\"a\":2}"}) {
    Metadata metadata;
    metadata.settings = settings;
    EXPECT_THROW(to_json(metadata), UsageError) << settings;
  }
}

TEST(Metadata, ForeignCommentsGiveNothing) {
  for (const std::string& text : {std::string("a holiday"), std::string("[1, 2]"), std::string(1000, '['),
                                  std::string("{\"prompt\": 5, \"seed\": -1, \"clip\": []}"),
                                  std::string("{\"prompt\": \"") + std::string(3 << 20, 'x') + "\"}"}) {
    const Metadata got = metadata_from_json(text);
    EXPECT_TRUE(got.prompt.empty());
    EXPECT_FALSE(got.seed.has_value());
    EXPECT_EQ(got.settings, "{}");
  }
}

TEST(Metadata, SizesThatCannotBeAreZero) {
  for (const char* height : {"-1", "1e300", "64.5", "9223372036854775807", "18446744073709551615", "\"64\""}) {
    const Metadata got = metadata_from_json(std::string("{\"clip\": {\"width\": 64, \"height\": ") + height + "}}");
    EXPECT_EQ(got.height, 0) << height;
    EXPECT_EQ(got.width, 64);
  }
}

TEST(Metadata, BadBytesAreReplaced) {
  EXPECT_EQ(clean_text(std::string("a\x01\xff\n\t\x7f", 6)), "a \xef\xbf\xbd\n\t ");
  Metadata metadata;
  metadata.prompt = "\xff";
  EXPECT_EQ(metadata_from_json(to_json(metadata)).prompt, "\xef\xbf\xbd");
}

}  // namespace
}  // namespace kinora::media
