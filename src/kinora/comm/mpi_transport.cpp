#include "kinora/comm/mpi_transport.h"

#include <utility>

#include "kinora/base/error.h"

namespace kinora::comm {

void check_mpi(int code, const char* doing) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw PeerError(concat(doing, " failed: ", text));
}

MpiTransport::MpiTransport(Board board, std::vector<bool> is_near) : board_(board), is_near_(std::move(is_near)) {
  int* highest = nullptr;
  int is_there = 0;
  check_mpi(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &highest, &is_there), "asking MPI for its tags");
  const int64_t tags = (is_there != 0 ? int64_t{*highest} : 32767) + 1;  // what the standard grants
  while (tag_bits_ < 31 && int64_t{1} << (tag_bits_ + 1) <= tags) ++tag_bits_;
}

Transport::Message MpiTransport::keep(MPI_Request request, int64_t expected) {
  open_.emplace(++made_, Open{request, expected});
  return made_;
}

Transport::Message MpiTransport::send(std::span<const std::byte> bytes, int to, int tag) {
  MPI_Request request;
  check_mpi(MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, to, tag, MPI_COMM_WORLD, &request),
            "sending to another rank");
  return keep(request, -1);
}

Transport::Message MpiTransport::receive(std::span<std::byte> bytes, int from, int tag) {
  MPI_Request request;
  check_mpi(MPI_Irecv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, from, tag, MPI_COMM_WORLD, &request),
            "receiving from another rank");
  return keep(request, static_cast<int64_t>(bytes.size()));
}

bool MpiTransport::done(Message message) {
  const auto found = open_.find(message);
  int is_done = 0;
  MPI_Status status;
  check_mpi(MPI_Test(&found->second.request, &is_done, &status), "a message between ranks");
  if (is_done == 0) return false;
  const int64_t expected = found->second.expected;
  open_.erase(found);
  int got = 0;
  if (expected >= 0) {
    check_mpi(MPI_Get_count(&status, MPI_BYTE, &got), "a message between ranks");
    if (got != expected)
      throw PeerError(concat("rank ", status.MPI_SOURCE, " sent ", got, " bytes where ", expected, " were expected"));
  }
  return true;
}

}  // namespace kinora::comm
