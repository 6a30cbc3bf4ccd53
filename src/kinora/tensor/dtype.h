// Element types as files name them, without ATen: the readers must start and fuzz without LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace kinora {

enum class DType : uint8_t { F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL, F8_E4M3, F8_E5M2 };

size_t dtype_bytes(DType dtype);
/// As in safetensors: "F32", "BF16", "F8_E4M3".
std::string_view dtype_name(DType dtype);
std::optional<DType> find_dtype(std::string_view name);

}  // namespace kinora
