// What every communicator must do, held to naive loops; each function is called on all ranks of a group.
#pragma once

#include "kinora/comm/communicator.h"

namespace kinora::comm {

/// All of the following. Failures are GoogleTest's.
void expect_collectives(Communicator& group);

/// Even, uneven and zero counts, in several dtypes.
void expect_exchanges(Communicator& group);
/// Sums have the bits of a loop over ranks; bfloat16 and float16 are rounded once.
void expect_ordered_sums(Communicator& group);
/// Several under way, waited for in another order on each rank.
void expect_overlap(Communicator& group);
void expect_messages(Communicator& group);
/// Rows and columns of a mesh, and groups of one.
void expect_groups(Communicator& group);

}  // namespace kinora::comm
