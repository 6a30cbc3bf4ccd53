// A build without MPI.
#include "kinora/base/error.h"
#include "kinora/comm/mpi.h"

namespace kinora::comm {

bool has_mpi() { return false; }

std::unique_ptr<World> join(const Place&, const JoinOptions&) {
  throw ResourceError("this build of kinora has no MPI, so it runs as one process",
                      "install libopenmpi-dev and openmpi-bin, and build again with -DKINORA_MPI=ON");
}

}  // namespace kinora::comm
