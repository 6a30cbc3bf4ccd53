// Ranks as processes, over MPI. MPI starts when a command asks for it and not before: a program that is linked with it
// and runs alone pays nothing.
#pragma once

#include <chrono>
#include <string>

#include "kinora/comm/exchange.h"
#include "kinora/comm/failure.h"
#include "kinora/comm/place.h"

namespace kinora::comm {

struct JoinOptions {
  std::string version;                        ///< of the program: must be the same on all ranks, as its file must
  std::chrono::milliseconds deadline{60000};  ///< of every wait for other ranks, this one too
  Check check = Check::first;
};

/// All ranks, while they last. One a process.
class World {
 public:
  virtual ~World() = default;  ///< without `finish`: the other ranks see that this one has failed
  virtual Communicator& all() = 0;
  virtual int ranks_of_host() const = 0;  ///< this one's: they share its memory and cores
  virtual int rank_of_host() const = 0;   ///< this rank among them, in the order of ranks

  /// Waits for all ranks and ends MPI. Throws as collectives do.
  virtual void finish() = 0;
  /// Whether this rank is the one that tells the user: the first of its host that asks. Others let rank 0 go first, and
  /// one whose error may come from another rank (PeerError, DeadlineError) that rank; what is everyone's comes from no
  /// other, and rank 0 will be there.
  virtual bool speaks(const Failure& failure) = 0;
  /// Leaves a record in the folder KINORA_RECORDS, if there is one: the error and the last 64 collectives. Then ends
  /// all ranks with this exit code, or is ended by the rank that failed first.
  virtual void end_all(const Failure& failure) = 0;

  /// MPI's own blocking all_reduce, without deadline or order: what `bench comm` compares to. float32.
  virtual void plain_all_reduce(const Tensor& values) = 0;
};

/// Whether this build has MPI.
bool has_mpi();

/// Starts MPI, as the rank that mpirun or srun made this process; finds the ranks of the same host, and lets this
/// process die with its parent. The thread that calls it, or one at a time, calls the rest.
/// Throws ResourceError where this build has no MPI, PeerError where MPI counts other ranks than the variables say or
/// ranks run different programs (the same on all ranks), DeadlineError where one does not come.
std::unique_ptr<World> join(const Place& place, const JoinOptions& options);

}  // namespace kinora::comm
