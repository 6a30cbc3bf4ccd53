#include "kinora/tensor/dtype.h"

#include <array>

#include "kinora/base/error.h"

namespace kinora {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  size_t bytes;
};

constexpr std::array<Row, 12> kTypes = {{{DType::F64, "F64", 8},
                                         {DType::F32, "F32", 4},
                                         {DType::F16, "F16", 2},
                                         {DType::BF16, "BF16", 2},
                                         {DType::I64, "I64", 8},
                                         {DType::I32, "I32", 4},
                                         {DType::I16, "I16", 2},
                                         {DType::I8, "I8", 1},
                                         {DType::U8, "U8", 1},
                                         {DType::BOOL, "BOOL", 1},
                                         {DType::F8_E4M3, "F8_E4M3", 1},
                                         {DType::F8_E5M2, "F8_E5M2", 1}}};

const Row& row(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  KINORA_ASSERT(index < kTypes.size() && kTypes[index].dtype == dtype);
  return kTypes[index];
}

}  // namespace

size_t dtype_bytes(DType dtype) { return row(dtype).bytes; }
std::string_view dtype_name(DType dtype) { return row(dtype).name; }

std::optional<DType> find_dtype(std::string_view name) {
  for (const Row& type : kTypes) {
    if (type.name == name) return type.dtype;
  }
  return std::nullopt;
}

}  // namespace kinora
