// Ranks with a GPU each, over NCCL (2.28; NVIDIA's "Fault Tolerance" chapter for communicators that can fail).
//
// NCCL's own calls are used and not c10d's ProcessGroupNCCL: that one's time limits, watchdog, what it prints and files
// it leaves are set by environment variables alone, and its communicators begin with the first exchange, where a rank
// that does not come is waited for without this deadline. Communicators are non-blocking: every wait for NCCL has an end.
#pragma once

#include "kinora/comm/exchange.h"

namespace kinora::comm {

/// Whether this build has NCCL.
bool has_nccl();

/// The ranks of `control`, for tensors of `device` ("cuda:N", this rank's own) and, through `control`, of the CPU. The id
/// by which ranks find each other comes from rank 0 over `control`, which outlives this. All as device_group.h says;
/// options.deadline is for what a rank's device waits for others, without what it still computes. Collective.
/// Throws ResourceError where this build has no NCCL or this machine no such device, UsageError where two ranks have the
/// same GPU (on all ranks), PeerError for what NCCL finds, DeadlineError.
std::unique_ptr<Communicator> nccl(Communicator& control, at::Device device, const ExchangeOptions& options);

}  // namespace kinora::comm
