#include "kinora/cache/registry.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/cache/pab.h"

namespace kinora::cache {
namespace {

const Context kOpenSora{.model = "STDiT3", .schedule = {1000, 500}, .steps = 2};

TEST(Settings, AreReadAsTheyAreWritten) {
  EXPECT_EQ(parse_settings("a=2,b=0.5,c=off,d=450..930,e=1+2+3,f=word"),
            (Json{{"a", 2}, {"b", 0.5}, {"c", false}, {"d", {450, 930}}, {"e", {1, 2, 3}}, {"f", "word"}}));
  EXPECT_EQ(parse_settings(""), Json::object());
  for (const char* wrong : {"a", "a=", "=2", "a=1,a=2", "a=1,,b=2"})
    EXPECT_THROW(parse_settings(wrong), UsageError) << wrong;
}

TEST(Registry, NamesWhatThereIs) {
  EXPECT_EQ(make_method("none", kOpenSora), nullptr);
  EXPECT_THROW(make_method("none:a=1", kOpenSora), UsageError);
  try {
    make_method("pub", kOpenSora);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(error.hint().find("pab"), std::string::npos);
  }
}

TEST(Registry, RefusesSettingsThatCannotBe) {
  for (const char* wrong :
       {"pab:spatial=0", "pab:spatial=x", "pab:window=450", "pab:window=930..450", "pab:window=0..1001",
        "pab:window=-1..5", "pab:full=2", "pab:spatail=2", "pab:temporal=1.5"})
    EXPECT_THROW(make_method(wrong, kOpenSora), UsageError) << wrong;
  EXPECT_THROW(make_method("pab", {.model = "AutoencoderKL"}), UsageError);
}

TEST(Registry, HandsSettingsToTheMethod) {
  const auto method = make_method("pab:spatial=3,cross=off,window=100..900,mlp=off", kOpenSora);
  const PabSettings& settings = dynamic_cast<const Pab&>(*method).settings();
  EXPECT_EQ(settings.attention.at(Kind::spatial).range, 3);
  EXPECT_EQ(settings.attention.at(Kind::temporal), (PabRule{.range = 4, .low = 100, .high = 900}));
  EXPECT_FALSE(settings.attention.contains(Kind::cross));
  EXPECT_TRUE(settings.mlp.empty());
}

}  // namespace
}  // namespace kinora::cache
