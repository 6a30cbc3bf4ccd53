// One process: every collective is the identity, so that code for many ranks needs no branch for one.
#pragma once

#include "kinora/comm/communicator.h"

namespace kinora::comm {

/// Rank 0 of 1. Buffers are checked as with many ranks.
std::unique_ptr<Communicator> single();

}  // namespace kinora::comm
