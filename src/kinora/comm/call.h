// What a rank says of the collective that it is in: compared between ranks, and shown when they differ.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace kinora::comm {

enum class Operation : int32_t {
  none,
  all_to_all,
  all_gather,
  reduce_scatter,
  all_reduce,
  broadcast,
  message,
  barrier,
  split
};
const char* name_of(Operation operation);

inline constexpr size_t kCallCounts = 32;  ///< of larger groups the counts are compared, but not shown
inline constexpr size_t kCallName = 48;    ///< of longer names the beginning is shown, and all is compared

/// Plain bytes: it lies in memory that processes share, and is sent as it is.
struct Call {
  uint64_t group = 0;     ///< the same number on every rank of a group
  int64_t channel = -1;   ///< message: from * N + to; otherwise -1
  int64_t sequence = -1;  ///< counts the calls of a channel
  Operation operation = Operation::none;
  int32_t dtype = 0;  ///< an at::ScalarType
  int32_t root = -1;
  int32_t ranks = 0;
  int64_t elements = 0;  ///< of the whole buffer; all_to_all: 0, for every rank has its own
  uint64_t agreed = 0;   ///< hash of everything that must be the same on all ranks
  std::array<char, kCallName> name{};
  std::array<int64_t, kCallCounts> counts{};  ///< all_to_all: what goes to each rank
  std::array<int64_t, kCallCounts> from{};    ///< all_to_all: what comes from each
};

/// Fills `agreed`, `name`, `counts` and `from`. `counts` and `from` are hashed where all ranks give the same.
void seal(Call& call, std::string_view name, std::span<const int64_t> counts, std::span<const int64_t> from = {});

/// all_gather #12 'rows' of Float [3, 2, 3]
std::string describe(const Call& call);

/// Whether two ranks' calls of one channel and sequence belong together; `mine` is rank `me`'s of the group.
bool agrees(const Call& mine, int me, const Call& other, int peer);

/// "ranks disagree: rank 0 is in ..., rank 1 in ..."
std::string both_sides(const Call& mine, int rank, const Call& other, int peer);

/// One step of a hash (FNV-1a, 64 bits).
uint64_t hash(uint64_t seed, const void* bytes, size_t size);
inline uint64_t hash(uint64_t seed, uint64_t value) { return hash(seed, &value, sizeof value); }

}  // namespace kinora::comm
