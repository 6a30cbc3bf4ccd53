#include "kinora/base/space.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"

namespace kinora {
namespace {

TEST(Space, ThatADiskDoesNotHaveIsNamedBeforeTheWork) {
  const TempFolder folder;
  EXPECT_NO_THROW(check_space(folder.path(), 1));
  EXPECT_NO_THROW(check_space(folder / "missing", uint64_t{1} << 62));  // what is done there then tells why
  EXPECT_NO_THROW(check_space("/proc", uint64_t{1} << 62));             // it has no size
  try {
    check_space(folder.path(), uint64_t{1} << 62);
    ADD_FAILURE() << "4.6 exabytes";
  } catch (const ResourceError& error) {
    EXPECT_NE(std::string(error.what()).find(folder.path().string()), std::string::npos) << error.what();
    EXPECT_NE(error.hint().find("free some disk space"), std::string::npos) << error.hint();
  }
}

}  // namespace
}  // namespace kinora
