// Rank 0 of ranks that are not there: for the shapes of exchanges, on tensors without memory.
#pragma once

#include <memory>

#include "kinora/comm/communicator.h"

namespace kinora::comm {

/// Knows its size; every collective throws std::logic_error.
std::unique_ptr<Communicator> unconnected(int size);

}  // namespace kinora::comm
