// Where the ranks of one host write what they do, so that a rank that waits can say for whom, and why: memory that they
// share, one slot a rank with its last 64 collectives.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kinora/comm/call.h"

namespace kinora::comm {

inline constexpr size_t kCallsKept = 64;

enum class Presence : int32_t { absent, working, finished, failed };

/// A slot's memory: zeros are a rank that has not come yet. Every field is written by its own rank alone.
struct Slot {
  std::atomic<uint32_t> lock{0};
  std::atomic<Presence> presence{Presence::absent};
  std::atomic<int32_t> pid{0};
  std::atomic<uint64_t> pid_space{0};  ///< process ids of another space say nothing here
  std::atomic<uint64_t> num_calls{0};
  std::array<Call, kCallsKept> calls{};
};

/// Shared by all ranks of the host, in front of the slots.
struct BoardHead {
  std::atomic<int32_t> speaker{0};  ///< rank + 1 of the rank that tells the user what went wrong
};

/// A view of such memory for one rank. Ranks are those of the world.
class Board {
 public:
  static size_t bytes(int ranks);
  /// `memory` is aligned to 64 bytes, was zeros when the first rank came, and outlives this.
  Board(void* memory, int ranks, int rank);

  void come();
  void leave(Presence how);
  void write(const Call& call);

  Presence presence(int rank) const;
  /// Of `rank`'s last 64 calls the one of this group, channel and sequence.
  std::optional<Call> find(int rank, uint64_t group, int64_t channel, int64_t sequence) const;
  std::vector<Call> calls(int rank) const;
  /// "rank 2 (process 4711) is stopped", "... has gone", "rank 2 is in all_gather #12 ..."; empty where the board knows nothing.
  std::string news(int rank) const;
  /// Its process has ended without leaving.
  bool has_gone(int rank) const;

  /// Whether this rank is the one to tell the user: the first that asks is.
  bool claim_speech();
  bool speech_is_claimed() const;

  int ranks() const { return ranks_; }
  int rank() const { return rank_; }

 private:
  Slot& slot(int rank) const;
  char process_state(int rank) const;

  BoardHead* head_;
  Slot* slots_;
  int ranks_, rank_;
};

}  // namespace kinora::comm
