#include "kinora/tensor/libtorch.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"

namespace kinora {
namespace {

TEST(LibTorchVersion, TheLoadedOneIsThatOfTheHeaders) {
  EXPECT_EQ(running_libtorch(), built_libtorch());
  EXPECT_NO_THROW(check_libtorch());
}

TEST(LibTorchVersion, AnotherOneIsRefusedNamingBoth) {
  for (const char* running : {"2.10.0", "2.11.1", "2.1.0", "12.11.0", "2.11"}) {
    try {
      check_libtorch("2.11.0", running);
      ADD_FAILURE() << running << " was taken";
    } catch (const ResourceError& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("for LibTorch 2.11.0"), std::string::npos) << what;
      EXPECT_NE(what.find(concat("LibTorch ", running, " is loaded")), std::string::npos) << what;
      EXPECT_NE(error.hint().find("2.11.0"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace kinora
