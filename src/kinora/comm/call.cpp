#include "kinora/comm/call.h"

#include <c10/core/ScalarType.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora::comm {
namespace {

size_t shown(const Call& call) { return std::min<size_t>(static_cast<size_t>(std::max(call.ranks, 0)), kCallCounts); }

std::string list(const Call& call, const std::array<int64_t, kCallCounts>& counts) {
  std::string out = "[";
  for (size_t i = 0; i < shown(call); ++i) out += (i > 0 ? ", " : "") + std::to_string(counts[i]);
  return out + (static_cast<size_t>(call.ranks) > kCallCounts ? ", ...]" : "]");
}

}  // namespace

const char* name_of(Operation operation) {
  switch (operation) {
    case Operation::all_to_all: return "all_to_all";
    case Operation::all_gather: return "all_gather";
    case Operation::reduce_scatter: return "reduce_scatter";
    case Operation::all_reduce: return "all_reduce";
    case Operation::broadcast: return "broadcast";
    case Operation::message: return "message";
    case Operation::barrier: return "barrier";
    case Operation::split: return "split";
    case Operation::none: break;
  }
  return "nothing";
}

uint64_t hash(uint64_t seed, const void* bytes, size_t size) {
  const auto* at = static_cast<const unsigned char*>(bytes);
  for (size_t i = 0; i < size; ++i) seed = (seed ^ at[i]) * 0x100000001b3U;
  return seed;
}

void seal(Call& call, std::string_view name, std::span<const int64_t> counts, std::span<const int64_t> from) {
  name.copy(call.name.data(), kCallName - 1);
  std::copy_n(counts.begin(), std::min(counts.size(), kCallCounts), call.counts.begin());
  std::copy_n(from.begin(), std::min(from.size(), kCallCounts), call.from.begin());
  uint64_t all = hash(0xcbf29ce484222325U, name.data(), name.size());
  for (const uint64_t part : {call.group, static_cast<uint64_t>(call.channel), static_cast<uint64_t>(call.sequence),
                              static_cast<uint64_t>(call.operation), static_cast<uint64_t>(call.dtype),
                              static_cast<uint64_t>(call.root), static_cast<uint64_t>(call.elements)})
    all = hash(all, part);
  if (call.operation != Operation::all_to_all) all = hash(all, counts.data(), counts.size_bytes());
  call.agreed = all;
}

std::string describe(const Call& call) {
  const std::string name(call.name.data(), ::strnlen(call.name.data(), kCallName));
  std::string out = concat(name_of(call.operation), " #", call.sequence, " '", printable(name), "'");
  if (call.operation == Operation::barrier || call.operation == Operation::split) return out;
  out += concat(" of ", c10::toString(static_cast<c10::ScalarType>(call.dtype)), " ");
  switch (call.operation) {
    case Operation::all_to_all: return out + concat("to ", list(call, call.counts), " from ", list(call, call.from));
    case Operation::all_gather:
    case Operation::reduce_scatter: return out + list(call, call.counts);
    case Operation::broadcast: return out + concat("[", call.elements, "] from rank ", call.root);
    case Operation::message:
      return out + concat("[", call.elements, "] from rank ", call.channel / std::max(call.ranks, 1), " to ",
                          call.channel % std::max(call.ranks, 1));
    default: return out + concat("[", call.elements, "]");
  }
}

bool agrees(const Call& mine, int me, const Call& other, int peer) {
  if (mine.agreed != other.agreed) return false;
  const auto i = static_cast<size_t>(me), p = static_cast<size_t>(peer);
  if (mine.operation != Operation::all_to_all || i >= kCallCounts || p >= kCallCounts) return true;
  return mine.counts[p] == other.from[i] && mine.from[p] == other.counts[i];
}

std::string both_sides(const Call& mine, int rank, const Call& other, int peer) {
  return concat("ranks disagree: rank ", rank, " is in ", describe(mine), ", rank ", peer, " in ", describe(other));
}

}  // namespace kinora::comm
