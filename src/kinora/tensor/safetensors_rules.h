// What a header may hold: the reader refuses all else, and the writer does not write it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kinora {

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
inline constexpr int64_t kMaxDim = int64_t{1} << 48;
inline constexpr size_t kMaxRank = 8;
inline constexpr size_t kMaxTensors = 100'000;
inline constexpr size_t kMaxMetadataBytes = size_t{1} << 20;
inline constexpr size_t kMaxMetadataEntries = 10'000;

/// "" when a tensor's name is acceptable, otherwise what is wrong with it.
std::string name_fault(std::string_view name);

/// Whether no string of the JSON, and nothing between two strings, has more than 2 MiB: the parser keeps copies of the
/// token that it reads, and one as long as the header would take its size several times.
bool has_short_tokens(std::string_view header);

}  // namespace kinora
