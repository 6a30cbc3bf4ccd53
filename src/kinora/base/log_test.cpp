#include "kinora/base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kinora/base/error.h"

namespace kinora {
namespace {

class Log : public testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([this](LogLevel, std::string_view line) { lines_.emplace_back(line); });
  }
  void TearDown() override {
    set_log_sink({});
    set_log_prefix("");
    set_log_level(LogLevel::info);
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, DropsWhatIsBelowTheLevel) {
  log_debug("a");
  log_info("b");
  set_log_level(LogLevel::error);
  log_warn("c");
  log_error("d");
  set_log_level(LogLevel::off);
  log_error("e");
  EXPECT_EQ(lines_, (std::vector<std::string>{"b", "error: d"}));
}

TEST_F(Log, PutsPrefixAndLevelBeforeTheText) {
  set_log_prefix("rank 3: ");
  set_log_level(LogLevel::debug);
  log_warn("x");
  log_debug("y {} %s");
  EXPECT_EQ(lines_, (std::vector<std::string>{"rank 3: warning: x", "rank 3: debug: y {} %s"}));
}

TEST_F(Log, WritesToStderrAndNotToStdout) {
  set_log_sink({});
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  log_info("a word {} with braces");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "a word {} with braces\n");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

TEST(LogLevels, AreReadByNameAndOthersRefused) {
  EXPECT_EQ(parse_log_level("debug"), LogLevel::debug);
  EXPECT_EQ(parse_log_level("off"), LogLevel::off);
  EXPECT_THROW(parse_log_level("loud"), UsageError);
}

}  // namespace
}  // namespace kinora
