#include "kinora/tensor/dtype.h"

#include <gtest/gtest.h>

namespace kinora {
namespace {

TEST(DType, NamesAndSizesAreThoseOfSafetensors) {
  const std::pair<const char*, size_t> types[] = {{"F64", 8}, {"F32", 4},  {"F16", 2},     {"BF16", 2},
                                                  {"I64", 8}, {"I32", 4},  {"I16", 2},     {"I8", 1},
                                                  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, bytes] : types) {
    const auto dtype = find_dtype(name);
    ASSERT_TRUE(dtype) << name;
    EXPECT_EQ(dtype_name(*dtype), name);
    EXPECT_EQ(dtype_bytes(*dtype), bytes) << name;
  }
  EXPECT_FALSE(find_dtype("f32"));
  EXPECT_FALSE(find_dtype("C64"));
  EXPECT_FALSE(find_dtype(""));
}

}  // namespace
}  // namespace kinora
