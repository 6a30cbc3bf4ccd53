// The ranks of one run, as a program sees them: joined when a command asks for them, and ended together.
#pragma once

#include <memory>
#include <string>

#include "kinora/comm/communicator.h"
#include "kinora/comm/mpi.h"

namespace kinora::cli {

/// Whether mpirun, srun or the like started this process as one of several. Throws as comm::find_place.
bool was_started_as_rank();

class Ranks {
 public:
  /// All ranks with which this process was started (kinora launch, mpirun, srun); alone: itself. The first call starts
  /// MPI. Throws as comm::join.
  comm::Communicator& join();
  /// The same ranks, for tensors of `device` too: a GPU's go over NCCL, those of the CPU as with join(). On every rank or
  /// on none, one device a run. Throws as join and comm::nccl.
  comm::Communicator& join(at::Device device);
  /// The device that --device names for this rank: "cuda" is the GPU with this rank's number on its host. Joins.
  std::string own_device(const std::string& name);
  /// Of those, how many are on this host; behind join().
  int of_host() const { return world_ ? world_->ranks_of_host() : 1; }
  /// MPI's own side, for measurements; nullptr when alone.
  comm::World* world() { return world_.get(); }

  /// The end of a run that went well. Throws as collectives do.
  void finish();
  /// Whether this rank tells the user of an error: one does.
  bool speaks(const comm::Failure& failure);
  /// The end of a run that did not go well, on all ranks. Returns where this process is the only one, and after a cancelled
  /// run, in which all ranks stop by themselves.
  void end_all(const comm::Failure& failure);

 private:
  std::unique_ptr<comm::World> world_;
  std::unique_ptr<comm::Communicator> alone_;
  comm::ExchangeOptions exchange_;
  std::unique_ptr<comm::Communicator> devices_;  ///< of GPUs; gone before the world
};

}  // namespace kinora::cli
