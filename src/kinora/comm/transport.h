// How bytes get from rank to rank: threads of one process, MPI. The collectives (exchange.h) are made of this alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kinora/comm/board.h"

namespace kinora::comm {

/// One rank's end. Used by one thread at a time. Ranks are those of the world.
class Transport {
 public:
  using Message = int64_t;
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Messages of one pair with one tag arrive in the order in which they were sent; the bytes stay until `done`.
  virtual Message send(std::span<const std::byte> bytes, int to, int tag) = 0;
  virtual Message receive(std::span<std::byte> bytes, int from, int tag) = 0;
  /// Whether it is through; asked no more once it said so. Throws PeerError when another size came.
  virtual bool done(Message message) = 0;

  virtual size_t largest_message() const = 0;  ///< bytes; what is longer goes in pieces
  virtual int tag_bits() const = 0;            ///< tags are 0 .. 2^bits - 1
  virtual Board& board() = 0;
  /// Whether the board shows what this rank does: it is on the same host.
  virtual bool is_near(int rank) const = 0;
};

}  // namespace kinora::comm
