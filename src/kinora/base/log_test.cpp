#include "kinora/base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

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
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, PutsPrefixAndLevelBeforeTheText) {
  set_log_prefix("rank 3: ");
  log_warn("x");
  log_error("y");
  log_info("z {} %s");
  EXPECT_EQ(lines_, (std::vector<std::string>{"rank 3: warning: x", "rank 3: error: y", "rank 3: z {} %s"}));
}

TEST_F(Log, WritesToStderrAndNotToStdout) {
  set_log_sink({});
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  log_info("a word {} with braces");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "a word {} with braces\n");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

}  // namespace
}  // namespace kinora
