#include "kinora/base/error.h"

#include <gtest/gtest.h>

namespace kinora {
namespace {

TEST(Error, EachClassHasItsExitCodeAndKeepsItsHint) {
  EXPECT_EQ(UsageError("a", "b").exit_code(), 2);
  EXPECT_EQ(DataError("a").exit_code(), 65);
  EXPECT_EQ(ResourceError("a").exit_code(), 69);
  EXPECT_EQ(PeerError("a").exit_code(), 76);
  EXPECT_EQ(CancelledError().exit_code(), 130);
  EXPECT_EQ(DeadlineError("a").exit_code(), 75);
  EXPECT_EQ(UsageError("a", "b").hint(), "b");
  EXPECT_STREQ(UsageError("a", "b").what(), "a");
}

TEST(Error, ConcatJoinsTextAndNumbers) { EXPECT_EQ(concat("frames: ", 17, ", ", 2.5), "frames: 17, 2.5"); }

TEST(Error, AFailedAssertionIsABugNotAnErrorOfTheUser) {
  EXPECT_NO_THROW(KINORA_ASSERT(1 + 1 == 2));
  EXPECT_THROW(KINORA_ASSERT(1 + 1 == 3), std::logic_error);
}

}  // namespace
}  // namespace kinora
