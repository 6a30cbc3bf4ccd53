// Messages over MPI: non-blocking calls only, so that every wait has an end (Open MPI's blocking ones have none).
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include <mpi.h>

#include "kinora/comm/transport.h"

namespace kinora::comm {

/// Throws PeerError with MPI's words unless `code` is success.
void check_mpi(int code, const char* doing);

class MpiTransport final : public Transport {
 public:
  /// Over all ranks. `is_near[r]`: rank r writes on the same board.
  MpiTransport(Board board, std::vector<bool> is_near);

  int rank() const override { return board_.rank(); }
  int size() const override { return board_.ranks(); }
  Message send(std::span<const std::byte> bytes, int to, int tag) override;
  Message receive(std::span<std::byte> bytes, int from, int tag) override;
  bool done(Message message) override;
  size_t largest_message() const override { return size_t{1} << 30; }  // MPI counts in int
  int tag_bits() const override { return tag_bits_; }
  Board& board() override { return board_; }
  bool is_near(int rank) const override { return is_near_[static_cast<size_t>(rank)]; }

 private:
  struct Open {
    MPI_Request request;
    int64_t expected;  ///< bytes; -1: sent
  };
  Message keep(MPI_Request request, int64_t expected);

  Board board_;
  std::vector<bool> is_near_;
  int tag_bits_ = 0;
  std::unordered_map<Message, Open> open_;
  Message made_ = 0;
};

}  // namespace kinora::comm
