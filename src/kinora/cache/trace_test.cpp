#include "kinora/cache/trace.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/test_folder.h"

namespace kinora::cache {
namespace {

constexpr const char* kLine = R"({"call":3,"path":"blocks.0.attn","reused":true,"timestep":950.5,"what":"spatial"})";

class Trace : public testing::Test {
 protected:
  std::vector<TracedDecision> read(const std::string& text) {
    write_file(folder_ / "t.jsonl", text);
    return read_trace(folder_ / "t.jsonl");
  }
  /// The message of what is refused.
  std::string refused(const std::string& text) {
    try {
      read(text);
    } catch (const DataError& error) {
      EXPECT_NE(error.hint().find("--trace"), std::string::npos);
      return error.what();
    }
    ADD_FAILURE() << "was taken: " << text;
    return {};
  }
  TempFolder folder_;
};

TEST_F(Trace, WhatIsWrittenIsReadAgain) {
  const Decision site{.call = 7, .timestep = 123.25, .what = "cross", .path = "b.1.cross_attn", .reused = true};
  const Decision call{.call = 8, .timestep = 0, .what = "call", .path = {}, .reused = false, .change = 0.125};
  const auto got = read(trace_line(site).dump() + "\n" + trace_line(call).dump() + "\n");
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].call, 7);
  EXPECT_EQ(got[0].timestep, 123.25);
  EXPECT_EQ(got[0].what, "cross");
  EXPECT_EQ(got[0].path, "b.1.cross_attn");
  EXPECT_TRUE(got[0].reused);
  EXPECT_TRUE(std::isnan(got[0].change));
  EXPECT_EQ(got[1].path, "");
  EXPECT_EQ(got[1].change, 0.125);
  EXPECT_FALSE(got[1].reused);
}

TEST_F(Trace, EmptyLinesAndAMissingLastLineEndDoNoHarm) {
  EXPECT_EQ(read(std::string(kLine) + "\n\n" + kLine).size(), 2u);
  EXPECT_EQ(read(std::string(kLine) + "\r\n \n").size(), 1u);
}

TEST_F(Trace, AFileWithoutADecisionIsRefused) {
  EXPECT_NE(refused("").find("has no decision"), std::string::npos);
  EXPECT_NE(refused("\n \n").find("has no decision"), std::string::npos);
  EXPECT_THROW(read_trace(folder_ / "nowhere"), UsageError);
}

TEST_F(Trace, ABrokenLineIsNamedByItsNumber) {
  const std::string good = std::string(kLine) + "\n";
  EXPECT_NE(refused(good + good + good.substr(0, 40) + "\n").find("line 3"), std::string::npos);
  EXPECT_NE(refused(good + "\n[1, 2]\n").find("line 3"), std::string::npos);
  EXPECT_NE(refused("\xff\xfe" + good).find("line 1"), std::string::npos);
  EXPECT_NE(refused(good + std::string(5000, ' ') + "{" + std::string(5000, ' ') + "}").find("line 2"),
            std::string::npos);
}

TEST_F(Trace, AKeyThatIsMissingOrWrongIsNamed) {
  for (const char* key : {"call", "timestep", "what", "reused"}) {
    Json line = Json::parse(kLine);
    line.erase(key);
    const std::string message = refused(line.dump());
    EXPECT_NE(message.find(key), std::string::npos) << message;
    EXPECT_NE(message.find("line 1"), std::string::npos) << message;
  }
  for (const auto& [key, value] : {std::pair<const char*, Json>{"call", -1}, {"reused", "yes"}, {"change", "much"}}) {
    Json line = Json::parse(kLine);
    line[key] = value;
    EXPECT_NE(refused(line.dump()).find(key), std::string::npos);
  }
  EXPECT_NE(refused(R"({"call":0,"timestep":1,"what":"mlp","reused":true,"loss":2})").find("loss"), std::string::npos);
}

}  // namespace
}  // namespace kinora::cache
